"""The arithmetic, made fast: bits, noise, products, sums in log space, packing, devices."""
