/** GF(2^8) against slow, plain definitions; every pair of lost columns comes back. */
import { expect, test } from "vitest";
import { type Column, computeParity, inverse, multiply, power, recoverColumns } from "#src/lvm/raid/parity.js";
import { seededRandom } from "../support.js";

/** Shift and add, one bit at a time. */
function slowMultiply(a: number, b: number): number {
  let [product, factor] = [0, a];
  for (let bit = 0; bit < 8; bit++) {
    if (b & (1 << bit)) product ^= factor;
    factor = (factor << 1) ^ (factor & 0x80 ? 0x11d : 0);
  }
  return product;
}

test("multiplication, powers and inverses", () => {
  for (let a = 0; a < 256; a++)
    for (let b = 0; b < 256; b += a % 7 === 0 ? 1 : 17) expect(multiply(a, b)).toBe(slowMultiply(a, b));
  let value = 1;
  for (let n = 0; n < 300; n++) {
    expect(power(n)).toBe(value);
    value = slowMultiply(value, 2);
  }
  for (let a = 1; a < 256; a++) expect(slowMultiply(a, inverse(a))).toBe(1);
});

test.each([1, 64, 65, 4099])("blocks of %i bytes come back from what is left", (length) => {
  const random = seededRandom(length);
  const data = Array.from({ length: 5 }, () => random(length));
  const columns = (lost: readonly number[]): Column[] =>
    data.map((block, exponent) => ({ block: lost.includes(exponent) ? null : block.slice(), exponent }));
  const [p, q] = [new Uint8Array(length), new Uint8Array(length)];
  computeParity(columns([]), { p, q });
  for (let i = 0; i < length; i++) {
    expect(p[i]).toBe(data.reduce((sum, block) => sum ^ block[i]!, 0));
    expect(q[i]).toBe(data.reduce((sum, block, n) => sum ^ slowMultiply(block[i]!, power(n)), 0));
  }
  const back = (lost: readonly number[], withP: boolean, withQ: boolean) => {
    const found = columns(lost);
    const complete = recoverColumns(found, withP ? p : null, withQ ? q : null, length);
    if (complete) for (const [n, { block }] of found.entries()) expect(Buffer.compare(block!, data[n]!)).toBe(0);
    return complete;
  };
  for (let x = 0; x < 5; x++) {
    expect(back([x], true, true)).toBe(true);
    expect(back([x], true, false)).toBe(true);
    expect(back([x], false, true)).toBe(true);
    expect(back([x], false, false)).toBe(false);
    for (let y = x + 1; y < 5; y++) {
      expect(back([x, y], true, true)).toBe(true);
      expect(back([x, y], true, false)).toBe(false);
    }
  }
  expect(back([0, 1, 2], true, true)).toBe(false);
});
