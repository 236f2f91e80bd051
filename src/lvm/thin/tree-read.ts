/** Looking into dm-thin's B+ trees: 64-bit keys, values of a fixed size in the leaves. Linux drivers/md/persistent-data/dm-btree.c. */
import { type Block, damaged } from "./block.js";
import type { Node } from "./node.js";

export interface TreeReader {
  /** For messages. */
  readonly label: string;
  node(number: number): Promise<Node>;
}

/** With 126 entries a node far more than 2^64 keys; only a damaged tree is deeper. */
export const MAX_DEPTH = 12;

/** Null when the key is not there. The bytes are those of the node, valid until the tree is changed. */
export async function lookup(reader: TreeReader, root: number, key: number): Promise<Uint8Array | null> {
  const { leaf } = await leafAt(reader, root, key);
  const at = leaf.lowerBound(key);
  return at < leaf.count && leaf.key(at) === key ? leaf.value(at) : null;
}

export interface FoundLeaf {
  readonly leaf: Node;
  /** The first key that belongs into the leaf behind; null when there is none. */
  readonly next: number | null;
}

/** The leaf into which a key belongs. */
export async function leafAt(reader: TreeReader, root: number, key: number): Promise<FoundLeaf> {
  let node = await reader.node(root);
  let next: number | null = null;
  for (let depth = 0; !node.isLeaf; depth++) {
    if (depth > MAX_DEPTH || node.count === 0) throw damagedTree(reader, node.block);
    const at = node.childFor(key);
    if (at + 1 < node.count) next = node.key(at + 1);
    node = await reader.node(node.child(at));
  }
  return { leaf: node, next };
}

export interface TreeEntry {
  readonly key: number;
  readonly value: Uint8Array;
}

/** Entries from a key on, ascending; the tree must not change meanwhile. */
export async function* entriesFrom(reader: TreeReader, root: number, from = 0): AsyncGenerator<TreeEntry> {
  let least = from;
  for (let start: number | null = from; start !== null; ) {
    const { leaf, next }: FoundLeaf = await leafAt(reader, root, start);
    for (let i = leaf.lowerBound(start); i < leaf.count; i++) {
      const key = leaf.key(i);
      if (key < least) throw damagedTree(reader, leaf.block);
      least = key + 1;
      yield { key, value: leaf.value(i) };
    }
    if (next !== null && next < least && next <= start) throw damagedTree(reader, leaf.block);
    start = next;
  }
}

export function damagedTree({ label }: TreeReader, { number }: Block): Error {
  return damaged(label, number, "it has no place in a tree of sorted keys");
}
