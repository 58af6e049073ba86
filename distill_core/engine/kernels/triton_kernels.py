"""Norm, ReLU and 2x2 mean of a ConvNet, and the loss on top, as Triton kernels.

Equations and letters are those of `blocks.h`. A program takes one image and BC channels. It reads
that plane twice, for sums over it and for the result; the second time it should come from a cache.
Sums are written per image, so the result does not depend on the order in which programs end. H, W
and C are constants: a kernel is compiled for each combination, and works for any N.

Names in capitals: H, W pixels and C channels of a plane; PH, PW pixels after pooling; BC channels
and BP pixels (before or after pooling) that a program takes at a time; T the dtype of arithmetic.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def forward(z, gain, bias, a, stats, EPS: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
            C: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, T: tl.constexpr):  # fmt: skip
    """Of z: a, and mean and rate (N, 2, C)."""
    PH: tl.constexpr = H // 2
    PW: tl.constexpr = W // 2
    n, channel, real = _program(C, BC)
    z += n * (H * W * C) + channel[None, :]
    mean, rate = _moments(z, real, EPS, H * W, C, BC, BP, T)
    scale = tl.load(gain + channel, mask=real, other=0.0) * rate
    shift = tl.load(bias + channel, mask=real, other=0.0) - scale * mean
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        corner = z + ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        total = tl.zeros((BP, BC), T)
        for at in tl.static_range(4):
            value = tl.load(corner + (at // 2 * W + at % 2) * C, mask=inside, other=0.0).to(T)
            u = scale[None, :] * value + shift[None, :]
            total += tl.where(u < 0, 0.0, u)  # keeps NaN
        out = a + n * (PH * PW * C) + (i * C)[:, None] + channel[None, :]
        tl.store(out, total * 0.25, mask=inside)
    stats += n * (2 * C) + channel
    tl.store(stats, mean, mask=real)
    tl.store(stats + C, rate, mask=real)


@triton.jit
def backward(z, gain, bias, stats, P, p, sums, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
             BC: tl.constexpr, BP: tl.constexpr, T: tl.constexpr):  # fmt: skip
    """Of P: p, and gradients of gain and bias (N, 2, C)."""
    PH: tl.constexpr = H // 2
    PW: tl.constexpr = W // 2
    n, channel, real = _program(C, BC)
    z += n * (H * W * C) + channel[None, :]
    p += n * (H * W * C) + channel[None, :]
    P += n * (PH * PW * C) + channel[None, :]
    stats += n * (2 * C) + channel
    mean = tl.load(stats, mask=real, other=0.0)
    rate = tl.load(stats + C, mask=real, other=0.0)
    scale = tl.load(gain + channel, mask=real, other=0.0) * rate
    shift = tl.load(bias + channel, mask=real, other=0.0) - scale * mean
    d_tile, dx_tile = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        corner = z + ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        quarter = tl.load(P + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        for at in tl.static_range(4):
            value = tl.load(corner + (at // 2 * W + at % 2) * C, mask=inside, other=0.0).to(T)
            d = tl.where(scale[None, :] * value + shift[None, :] > 0, quarter, 0.0)
            d_tile += d
            dx_tile += d * (value - mean[None, :])
    d_sum = tl.sum(d_tile, 0)
    dx_sum = tl.sum(dx_tile, 0) * rate
    # p = scale d - on_away away - mean_d
    mean_d = (scale * d_sum / (H * W))[None, :]
    on_away = (scale * dx_sum / (H * W) * rate)[None, :]
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        place = ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        quarter = tl.load(P + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        for at in tl.static_range(4):
            here = place + (at // 2 * W + at % 2) * C
            value = tl.load(z + here, mask=inside, other=0.0).to(T)
            d = tl.where(scale[None, :] * value + shift[None, :] > 0, quarter, 0.0)
            away = value - mean[None, :]
            tl.store(p + here, scale[None, :] * d - on_away * away - mean_d, mask=inside)
    for start in range(0, H * W - 4 * PH * PW, BP):
        place, inside = _rest(start, real, H, W, C, BP)
        value = tl.load(z + place, mask=inside, other=0.0).to(T)
        tl.store(p + place, -on_away * (value - mean[None, :]) - mean_d, mask=inside)
    sums += n * (2 * C) + channel
    tl.store(sums, dx_sum, mask=real)
    tl.store(sums + C, d_sum, mask=real)


@triton.jit
def tangent_forward(z, tz, gain, bias, tgain, tbias, a, ta, stats, EPS: tl.constexpr,
                    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, BC: tl.constexpr,
                    BP: tl.constexpr, T: tl.constexpr):  # fmt: skip
    """Of z and tz: a and ta, and mean, rate, tmean and slope (N, 4, C)."""
    PH: tl.constexpr = H // 2
    PW: tl.constexpr = W // 2
    n, channel, real = _program(C, BC)
    z += n * (H * W * C) + channel[None, :]
    tz += n * (H * W * C) + channel[None, :]
    mean, rate, tmean, slope = _tangent_moments(z, tz, real, EPS, H * W, C, BC, BP, T)
    scale = tl.load(gain + channel, mask=real, other=0.0) * rate
    shift = tl.load(bias + channel, mask=real, other=0.0) - scale * mean
    # tu = scale tz + on_z z + tshift
    on_z = (tl.load(tgain + channel, mask=real, other=0.0) - scale * slope) * rate
    tshift = tl.load(tbias + channel, mask=real, other=0.0) - scale * tmean - on_z * mean
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        place = ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        total, ttotal = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
        for at in tl.static_range(4):
            here = place + (at // 2 * W + at % 2) * C
            value = tl.load(z + here, mask=inside, other=0.0).to(T)
            tvalue = tl.load(tz + here, mask=inside, other=0.0).to(T)
            u = scale[None, :] * value + shift[None, :]
            tu = scale[None, :] * tvalue + on_z[None, :] * value + tshift[None, :]
            total += tl.where(u < 0, 0.0, u)
            ttotal += tl.where(u > 0, tu, 0.0)
        out = n * (PH * PW * C) + (i * C)[:, None] + channel[None, :]
        tl.store(a + out, total * 0.25, mask=inside)
        tl.store(ta + out, ttotal * 0.25, mask=inside)
    stats += n * (4 * C) + channel
    tl.store(stats, mean, mask=real)
    tl.store(stats + C, rate, mask=real)
    tl.store(stats + 2 * C, tmean, mask=real)
    tl.store(stats + 3 * C, slope, mask=real)


@triton.jit
def tangent_backward(z, tz, gain, bias, tgain, stats, P, Q, q, p, sums, H: tl.constexpr,
                     W: tl.constexpr, C: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
                     T: tl.constexpr):  # fmt: skip
    """Of P and Q: q and p, and dL'/d gain and dL'/d bias (N, 2, C)."""
    PH: tl.constexpr = H // 2
    PW: tl.constexpr = W // 2
    n, channel, real = _program(C, BC)
    z += n * (H * W * C) + channel[None, :]
    tz += n * (H * W * C) + channel[None, :]
    q += n * (H * W * C) + channel[None, :]
    p += n * (H * W * C) + channel[None, :]
    P += n * (PH * PW * C) + channel[None, :]
    Q += n * (PH * PW * C) + channel[None, :]
    stats += n * (4 * C) + channel
    mean = tl.load(stats, mask=real, other=0.0)
    rate = tl.load(stats + C, mask=real, other=0.0)
    tmean = tl.load(stats + 2 * C, mask=real, other=0.0)
    slope = tl.load(stats + 3 * C, mask=real, other=0.0)
    g = tl.load(gain + channel, mask=real, other=0.0)
    scale = g * rate
    shift = tl.load(bias + channel, mask=real, other=0.0) - scale * mean
    d_tile, dx_tile, dt_tile = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    e_tile, ex_tile = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        place = ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        quarter = tl.load(P + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        q_quarter = tl.load(Q + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        for at in tl.static_range(4):
            here = place + (at // 2 * W + at % 2) * C
            value = tl.load(z + here, mask=inside, other=0.0).to(T)
            live = scale[None, :] * value + shift[None, :] > 0
            away = value - mean[None, :]
            d, e = tl.where(live, quarter, 0.0), tl.where(live, q_quarter, 0.0)
            d_tile += d
            dx_tile += d * away
            e_tile += e
            ex_tile += e * away
            dt_tile += d * (tl.load(tz + here, mask=inside, other=0.0).to(T) - tmean[None, :])
    d_sum, e_sum = tl.sum(d_tile, 0), tl.sum(e_tile, 0)
    dx_sum, ex_sum = tl.sum(dx_tile, 0) * rate, tl.sum(ex_tile, 0) * rate
    dtx_sum = rate * (tl.sum(dt_tile, 0) - slope * dx_sum)
    # p = scale d + p_away away + p_0;  q = scale e + q_d d + q_t tz + q_away away + q_0
    k = g * dx_sum / (H * W)
    on_d = tl.load(tgain + channel, mask=real, other=0.0) - scale * slope
    mean_E = (g * e_sum + on_d * d_sum) / (H * W) - rate * k * tmean
    mean_Ex = (g * ex_sum + on_d * dx_sum) / (H * W) - rate * k * slope
    p_away = (-rate * rate * k)[None, :]
    p_0 = (-scale * d_sum / (H * W))[None, :]
    q_d = (rate * on_d)[None, :]
    q_t = p_away
    q_away = (-rate * rate * (mean_Ex + g * dtx_sum / (H * W)))[None, :]
    q_0 = (-rate * mean_E)[None, :]
    for start in range(0, PH * PW, BP):
        i = start + tl.arange(0, BP)
        inside = (i < PH * PW)[:, None] & real[None, :]
        place = ((i // PW * 2 * W + i % PW * 2) * C)[:, None]
        quarter = tl.load(P + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        q_quarter = tl.load(Q + (i * C)[:, None], mask=inside, other=0.0).to(T) * 0.25
        for at in tl.static_range(4):
            here = place + (at // 2 * W + at % 2) * C
            value = tl.load(z + here, mask=inside, other=0.0).to(T)
            tvalue = tl.load(tz + here, mask=inside, other=0.0).to(T)
            live = scale[None, :] * value + shift[None, :] > 0
            away = value - mean[None, :]
            d, e = tl.where(live, quarter, 0.0), tl.where(live, q_quarter, 0.0)
            tl.store(p + here, scale[None, :] * d + p_away * away + p_0, mask=inside)
            of_q = scale[None, :] * e + q_d * d + q_t * tvalue + q_away * away + q_0
            tl.store(q + here, of_q, mask=inside)
    for start in range(0, H * W - 4 * PH * PW, BP):
        place, inside = _rest(start, real, H, W, C, BP)
        away = tl.load(z + place, mask=inside, other=0.0).to(T) - mean[None, :]
        tvalue = tl.load(tz + place, mask=inside, other=0.0).to(T)
        tl.store(p + place, p_away * away + p_0, mask=inside)
        tl.store(q + place, q_t * tvalue + q_away * away + q_0, mask=inside)
    sums += n * (2 * C) + channel
    tl.store(sums, ex_sum + dtx_sum, mask=real)
    tl.store(sums + C, e_sum, mask=real)


@triton.jit
def cross_entropy(logits, labels, losses, dlogits, count, K: tl.constexpr, BK: tl.constexpr):
    """Of one row of K logits: its share of a loss over `count` images, and the gradient."""
    n = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BK)
    inside = at < K
    at += n * K
    label = tl.load(labels + at, mask=inside, other=0.0)
    logit = tl.load(logits + at, mask=inside, other=float("-inf"))
    logit -= tl.max(logit, 0)
    total = tl.sum(tl.exp(logit), 0)
    dlogit = tl.sum(label, 0) * (tl.exp(logit) / total) - label
    tl.store(dlogits + at, dlogit / count, mask=inside)
    loss = tl.sum(label * (tl.where(inside, logit, 0.0) - tl.log(total)), 0)
    tl.store(losses + n, -loss / count)


@triton.jit
def tangent_cross_entropy(logits, tlogits, labels, dtlogits, dlogits, dlabels, count,
                          K: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """Of one row of K logits and their tangents: the derivatives of all three."""
    at = tl.arange(0, BK)
    inside = at < K
    at += tl.program_id(0).to(tl.int64) * K
    label = tl.load(labels + at, mask=inside, other=0.0)
    tlogit = tl.load(tlogits + at, mask=inside, other=0.0)
    logit = tl.load(logits + at, mask=inside, other=float("-inf"))
    weight = tl.exp(logit - tl.max(logit, 0))
    probability = weight / tl.sum(weight, 0)
    expected = tl.sum(probability * tlogit, 0)
    likely = tl.sum(label, 0) * probability
    tl.store(dtlogits + at, (likely - label) / count, mask=inside)
    tl.store(dlogits + at, likely * (tlogit - expected) / count, mask=inside)
    tl.store(dlabels + at, (expected - tlogit) / count, mask=inside)


@triton.jit
def _program(C: tl.constexpr, BC: tl.constexpr):
    """Image and channels of this program, and which of the channels exist."""
    BLOCKS: tl.constexpr = (C + BC - 1) // BC
    place = tl.program_id(0)
    channel = place % BLOCKS * BC + tl.arange(0, BC)
    return (place // BLOCKS).to(tl.int64), channel, channel < C


@triton.jit
def _rest(start, real, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, BP: tl.constexpr):
    """Places of the pixels outside all pooling windows: last row and column of odd sizes."""
    ROW: tl.constexpr = H % 2 * W
    i = start + tl.arange(0, BP)
    pixel = tl.where(i < ROW, (H - 1) * W + i, (i - ROW) * W + W - 1)
    inside = i < H * W - (H - H % 2) * (W - W % 2)
    return (pixel * C)[:, None], inside[:, None] & real[None, :]


@triton.jit
def _moments(z, real, EPS: tl.constexpr, M: tl.constexpr, C: tl.constexpr, BC: tl.constexpr,
             BP: tl.constexpr, T: tl.constexpr):  # fmt: skip
    """Mean and rate of M pixels: Welford's update in each lane, then combined over lanes."""
    mean, square = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    seen = tl.zeros((1, 1), T)
    for start in range(0, M, BP):
        i = start + tl.arange(0, BP)
        inside = (i < M)[:, None] & real[None, :]
        value = tl.load(z + (i * C)[:, None], mask=inside, other=0.0).to(T)
        seen += 1.0
        away = tl.where(inside, value - mean, 0.0)
        mean += away * (1.0 / seen)
        square += away * (value - mean)
    held = ((M - tl.arange(0, BP) + BP - 1) // BP).to(T)[:, None]
    middle = tl.sum(held * mean, 0) / M
    away = mean - middle[None, :]
    variance = tl.sum(square + held * away * away, 0) / M
    return middle, 1.0 / tl.sqrt(variance + EPS)


@triton.jit
def _tangent_moments(z, tz, real, EPS: tl.constexpr, M: tl.constexpr, C: tl.constexpr,
                     BC: tl.constexpr, BP: tl.constexpr, T: tl.constexpr):  # fmt: skip
    """Mean, rate, tmean and slope: rate times a covariance, computed like the variance."""
    mean, square = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    tmean, product = tl.zeros((BP, BC), T), tl.zeros((BP, BC), T)
    seen = tl.zeros((1, 1), T)
    for start in range(0, M, BP):
        i = start + tl.arange(0, BP)
        inside = (i < M)[:, None] & real[None, :]
        value = tl.load(z + (i * C)[:, None], mask=inside, other=0.0).to(T)
        tvalue = tl.load(tz + (i * C)[:, None], mask=inside, other=0.0).to(T)
        seen += 1.0
        away = tl.where(inside, value - mean, 0.0)
        taway = tl.where(inside, tvalue - tmean, 0.0)
        mean += away * (1.0 / seen)
        tmean += taway * (1.0 / seen)
        square += away * (value - mean)
        product += taway * (value - mean)
    held = ((M - tl.arange(0, BP) + BP - 1) // BP).to(T)[:, None]
    middle, tmiddle = tl.sum(held * mean, 0) / M, tl.sum(held * tmean, 0) / M
    away = mean - middle[None, :]
    taway = tmean - tmiddle[None, :]
    variance = tl.sum(square + held * away * away, 0) / M
    covariance = tl.sum(product + held * away * taway, 0) / M
    rate = 1.0 / tl.sqrt(variance + EPS)
    return middle, rate, tmiddle, rate * covariance
