/** The middle value; of an even count, the mean of the middle two. */
export function median(values) {
  if (values.length === 0) throw new RangeError("no values to take a median of");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
