"""Methods that differentiate an inner loop: ratbptt, bptt, dd."""
