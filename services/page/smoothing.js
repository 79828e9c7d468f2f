// The exponential moving average of a curve. Pure.

/**
 * Each value averaged with those before it, `weight` (0 to 1) being what the past counts.
 *
 * Corrected for the start, so that the first values are not drawn to zero: divided by
 * 1 - weight^n (Kingma and Ba 2015, section 3). Gaps (null) stay gaps and count nothing.
 */
export function ema(values, weight) {
  if (!weight) return values;
  let sum = 0;
  let scale = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    sum = weight * sum + (1 - weight) * value;
    scale = weight * scale + (1 - weight);
    return sum / scale;
  });
}
