"use strict";
(() => {
  const source = document.getElementById("data");
  if (source) {
    const d = JSON.parse(source.textContent);
    const find = (id) => document.getElementById(id);
    const overlay = find("overlay"), box = find("box"), bars = find("bars"), patch = find("patch");
    const sprite = find("sprite"), pen = patch.getContext("2d"), [h, w] = d.hw;
    patch.width = w;
    patch.height = h;

    // The item whose centre is nearest, of those that hold the point; items may wrap around.
    const nearest = (canvas, y, x) => {
      let best = -1, least = Infinity;
      const turns = d.wraps ? [0, 1] : [0];
      d.items.forEach(([c, y0, x0, y1, x1], k) => {
        if (c !== canvas) return;
        for (const down of turns) for (const across of turns) {
          const py = y + down * d.period[0], px = x + across * d.period[1];
          if (py < y0 || py >= y1 || px < x0 || px >= x1) continue;
          const far = Math.hypot(py - (y0 + y1) / 2, px - (x0 + x1) / 2);
          if (far < least) [least, best] = [far, k];
        }
      });
      return best;
    };

    const show = (k) => {
      const [canvas, y0, x0, y1, x1] = d.items[k] || [0, 0, 0, 0, 0];
      const [top, left] = d.corners[canvas];
      const set = { x: left + d.factor * x0, y: top + d.factor * y0,
                    width: d.factor * (x1 - x0), height: d.factor * (y1 - y0) };
      for (const name in set) box.setAttribute(name, set[name]);
      pen.drawImage(sprite, (k % d.columns) * w, Math.floor(k / d.columns) * h, w, h, 0, 0, w, h);
      bars.replaceChildren(...d.labels[k].map(([label, value]) => {
        const row = document.createElement("div"), name = document.createElement("b");
        const bar = document.createElement("i"), number = document.createElement("span");
        name.textContent = name.title = d.classes[label];
        bar.style.width = Math.max(0, Math.min(1, value)) * 100 + "%";
        number.textContent = value.toFixed(3);
        row.append(name, bar, number);
        return row;
      }));
      document.body.dataset.item = k;
    };

    const point = (event) => {
      const area = overlay.getBoundingClientRect(), view = overlay.viewBox.baseVal;
      const x = (event.clientX - area.left) / area.width * view.width;
      const y = (event.clientY - area.top) / area.height * view.height;
      const [height, width] = d.period.map((side) => side * d.factor);
      d.corners.forEach(([top, left], canvas) => {
        if (y < top || y >= top + height || x < left || x >= left + width) return;
        const k = nearest(canvas, (y - top) / d.factor, (x - left) / d.factor);
        if (k >= 0) show(k);
      });
    };
    overlay.addEventListener("pointermove", point);
    overlay.addEventListener("pointerdown", point);
    find("grid").addEventListener("change", (event) =>
      find("cells").classList.toggle("hide", !event.target.checked));
    const start = () => { show(0); document.body.dataset.ready = "yes"; };
    sprite.complete ? start() : sprite.addEventListener("load", start);
  } else {
    document.body.dataset.ready = "yes";
  }
})();
