/**
 * The two sums of RAID 5 and 6. P is the exclusive or of the data; Q is the sum of g^i * data(i) in GF(2^8) with the polynomial
 * 0x11d and g = 2, as H. P. Anvin, "The mathematics of RAID-6", has it and Linux (lib/raid6) computes it. Pure.
 * Blocks are of one length; four bytes are worked on at a time where they lie aligned.
 */

const EXP = new Uint8Array(512);
const LOG = new Uint8Array(256);
for (let i = 0, value = 1; i < 255; i++) {
  EXP[i] = EXP[i + 255] = value;
  LOG[value] = i;
  value = (value << 1) ^ (value & 0x80 ? 0x11d : 0);
}

/** g^n for any n from 0 on. */
export function power(n: number): number {
  return EXP[n % 255]!;
}

export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : EXP[LOG[a]! + LOG[b]!]!;
}

/** `a` is not 0. */
export function inverse(a: number): number {
  return EXP[255 - LOG[a]!]!;
}

/** into ^= block */
export function xorInto(into: Uint8Array, block: Uint8Array): void {
  const words = asWords(into, block);
  if (words) {
    const [target, source] = words;
    for (let i = 0; i < target.length; i++) target[i]! ^= source[i]!;
  }
  for (let i = words ? words[0].length * 4 : 0; i < into.length; i++) into[i]! ^= block[i]!;
}

/** into ^= factor * block */
export function addMultiple(into: Uint8Array, block: Uint8Array, factor: number): void {
  const products = timesTable(factor);
  for (let i = 0; i < into.length; i++) into[i]! ^= products[block[i]!]!;
}

/** block = factor * block */
export function scale(block: Uint8Array, factor: number): void {
  const products = timesTable(factor);
  for (let i = 0; i < block.length; i++) block[i] = products[block[i]!]!;
}

const tables = new Map<number, Uint8Array>();

function timesTable(factor: number): Uint8Array {
  let table = tables.get(factor);
  if (!table) {
    table = Uint8Array.from({ length: 256 }, (_, value) => multiply(value, factor));
    tables.set(factor, table);
  }
  return table;
}

function asWords(a: Uint8Array, b: Uint8Array): [Int32Array, Int32Array] | null {
  if (a.byteOffset % 4 !== 0 || b.byteOffset % 4 !== 0) return null;
  const words = a.length >> 2;
  return [new Int32Array(a.buffer, a.byteOffset, words), new Int32Array(b.buffer, b.byteOffset, words)];
}

/** A column of a stripe: the block (null when it is lost) and the power of g that it has in Q. */
export interface Column {
  block: Uint8Array | null;
  readonly exponent: number;
}

/** P and Q of whole columns, written into what is given. */
export function computeParity(
  columns: readonly Column[],
  { p, q }: { readonly p?: Uint8Array | null; readonly q?: Uint8Array | null },
): void {
  p?.fill(0);
  q?.fill(0);
  for (const { block, exponent } of columns) {
    if (p) xorInto(p, block!);
    if (q) addMultiple(q, block!, power(exponent));
  }
}

/**
 * Fills in the blocks of lost columns, each a new one of `length` bytes: one with P or Q, two with both. False when there is not
 * enough to tell. `p` and `q` are null where they are lost too.
 */
export function recoverColumns(
  columns: readonly Column[],
  p: Uint8Array | null,
  q: Uint8Array | null,
  length: number,
): boolean {
  const lost = columns.filter(({ block }) => block === null);
  if (lost.length === 0) return true;
  const present = columns.filter(({ block }) => block !== null);
  const [first, second] = lost;
  if (lost.length === 1 && p) {
    const block = Uint8Array.from(p);
    for (const column of present) xorInto(block, column.block!);
    first!.block = block;
    return true;
  }
  if (lost.length === 1 && q) {
    const block = Uint8Array.from(q);
    for (const column of present) addMultiple(block, column.block!, power(column.exponent));
    scale(block, inverse(power(first!.exponent)));
    first!.block = block;
    return true;
  }
  if (lost.length !== 2 || !p || !q) return false;
  // With A = P + the present ones and B = Q + theirs:  x + y = A,  g^i x + g^j y = B.  So x = (B + g^j A) / (g^i + g^j), y = A + x.
  const a = Uint8Array.from(p);
  const x = Uint8Array.from(q);
  for (const column of present) {
    xorInto(a, column.block!);
    addMultiple(x, column.block!, power(column.exponent));
  }
  const [i, j] = [power(first!.exponent), power(second!.exponent)];
  addMultiple(x, a, j);
  scale(x, inverse(i ^ j));
  xorInto(a, x);
  first!.block = x.subarray(0, length);
  second!.block = a.subarray(0, length);
  return true;
}
