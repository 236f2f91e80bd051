/** The entries of one tree node: sorted 64-bit keys, and behind the room for them values of a fixed size. */
import { type Block, count64, damaged, setCount64 } from "./block.js";
import { BLOCK } from "./layout.js";

const INTERNAL = 1;
const LEAF = 2;
const KEYS = 32;

/** Room of a node for values of this size; a multiple of three, so that a third is a whole number. */
export function maxEntries(valueSize: number): number {
  return Math.floor((BLOCK - KEYS) / (8 + valueSize) / 3) * 3;
}

export class Node {
  readonly block: Block;
  readonly isLeaf: boolean;
  readonly max: number;
  readonly valueSize: number;

  /** `label` is of the device, for messages. Throws `CORRUPT` when the header contradicts itself. */
  constructor(block: Block, label: string) {
    const { view } = block;
    const flags = view.getUint32(4, true);
    this.block = block;
    this.isLeaf = flags === LEAF;
    this.max = view.getUint32(20, true);
    this.valueSize = view.getUint32(24, true);
    const problem =
      flags !== LEAF && flags !== INTERNAL
        ? `its flags are ${flags}, allowed ${INTERNAL} and ${LEAF}`
        : this.valueSize === 0 || this.max !== maxEntries(this.valueSize) || (!this.isLeaf && this.valueSize !== 8)
          ? `it has room for ${this.max} values of ${this.valueSize} bytes`
          : this.count > this.max
            ? `it has ${this.count} entries, allowed 0..${this.max}`
            : null;
    if (problem) throw damaged(label, block.number, problem);
  }

  static format(block: Block, isLeaf: boolean, valueSize: number, label: string): Node {
    const { view } = block;
    view.setUint32(4, isLeaf ? LEAF : INTERNAL, true);
    view.setUint32(20, maxEntries(valueSize), true);
    view.setUint32(24, valueSize, true);
    return new Node(block, label);
  }

  get number(): number {
    return this.block.number;
  }

  get count(): number {
    return this.block.view.getUint32(16, true);
  }

  /** Fewer entries than these have only roots. */
  get least(): number {
    return this.max / 3;
  }

  key(index: number): number {
    return count64(this.block.view, KEYS + index * 8);
  }

  setKey(index: number, key: number): void {
    setCount64(this.block.view, KEYS + index * 8, key);
    this.block.dirty = true;
  }

  /** Of an internal node. */
  child(index: number): number {
    return count64(this.block.view, this.valueOffset(index));
  }

  setChild(index: number, number: number): void {
    setCount64(this.block.view, this.valueOffset(index), number);
    this.block.dirty = true;
  }

  valueOffset(index: number): number {
    return KEYS + this.max * 8 + index * this.valueSize;
  }

  /** The bytes themselves, not a copy. */
  value(index: number): Uint8Array {
    const at = this.valueOffset(index);
    return this.block.bytes.subarray(at, at + this.valueSize);
  }

  setValue(index: number, value: Uint8Array): void {
    this.block.bytes.set(value, this.valueOffset(index));
    this.block.dirty = true;
  }

  /** The first entry with a key from `key` on. */
  lowerBound(key: number): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.key(middle) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The child under which `key` belongs. */
  childFor(key: number): number {
    const at = this.lowerBound(key);
    return at < this.count && this.key(at) === key ? at : Math.max(0, at - 1);
  }

  insert(index: number, key: number, value: Uint8Array): void {
    this.#move(index, index + 1, this.count - index);
    this.#setCount(this.count + 1);
    this.setKey(index, key);
    this.setValue(index, value);
  }

  remove(from: number, to: number): void {
    this.#move(to, from, this.count - to);
    this.#setCount(this.count - (to - from));
  }

  /** Takes the last `entries` of `left`, which come before the own ones. */
  takeFromLeft(left: Node, entries: number): void {
    this.#move(0, entries, this.count);
    this.#copy(left, left.count - entries, 0, entries);
    this.#setCount(this.count + entries);
    left.#setCount(left.count - entries);
  }

  /** Takes the first `entries` of `right`, which come behind the own ones. */
  takeFromRight(right: Node, entries: number): void {
    this.#copy(right, 0, this.count, entries);
    this.#setCount(this.count + entries);
    right.remove(0, entries);
  }

  #setCount(count: number): void {
    this.block.view.setUint32(16, count, true);
    this.block.dirty = true;
  }

  #copy(from: Node, index: number, to: number, entries: number): void {
    const { bytes } = from.block;
    this.block.bytes.set(bytes.subarray(KEYS + index * 8, KEYS + (index + entries) * 8), KEYS + to * 8);
    this.block.bytes.set(
      bytes.subarray(from.valueOffset(index), from.valueOffset(index + entries)),
      this.valueOffset(to),
    );
  }

  #move(from: number, to: number, entries: number): void {
    const { bytes } = this.block;
    bytes.copyWithin(KEYS + to * 8, KEYS + from * 8, KEYS + (from + entries) * 8);
    bytes.copyWithin(this.valueOffset(to), this.valueOffset(from), this.valueOffset(from + entries));
  }
}
