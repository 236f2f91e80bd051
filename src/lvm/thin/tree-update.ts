/**
 * Changing dm-thin's B+ trees without touching what is committed: every node on the way is shadowed, copied to a new block unless
 * this transaction made it, from the root down. Nodes other than roots keep at least a third of their entries.
 */
import { setCount64 } from "./block.js";
import type { Node } from "./node.js";
import { damagedTree, leafAt, MAX_DEPTH, type TreeReader } from "./tree-read.js";

/** What the values of a tree are. Values that count references say how. */
export interface TreeType {
  readonly valueSize: number;
  /** A leaf was copied: one more refers to the same. */
  increment?(value: Uint8Array): Promise<void>;
  /** An entry is gone. */
  release?(value: Uint8Array): Promise<void>;
}

export interface TreeWriter extends TreeReader {
  /** The node as one that may be changed, perhaps in another block; its owner must take that in. */
  shadow(number: number, type: TreeType): Promise<Node>;
  createNode(isLeaf: boolean, valueSize: number): Promise<Node>;
  /** One reference less to a block. Returns how many are left. */
  release(number: number): Promise<number>;
}

export async function createTree(writer: TreeWriter, type: TreeType): Promise<number> {
  return (await writer.createNode(true, type.valueSize)).number;
}

/** Sets the value of a key. Returns the new root; the old value is overwritten, not released. */
export async function insert(
  writer: TreeWriter,
  type: TreeType,
  root: number,
  key: number,
  value: Uint8Array,
): Promise<number> {
  let top = await writer.shadow(root, type);
  if (top.count === top.max) {
    const above = await writer.createNode(false, 8);
    above.insert(0, top.key(0), reference(top.number));
    await split(writer, above, 0, top, key);
    top = above;
  }
  let node = top;
  for (let depth = 0; !node.isLeaf; depth++) {
    if (depth > MAX_DEPTH || node.count === 0) throw damagedTree(writer, node.block);
    const at = node.childFor(key);
    if (key < node.key(at)) node.setKey(at, key);
    const child = await shadowChild(writer, type, node, at);
    node = child.count < child.max ? child : await split(writer, node, at, child, key);
  }
  const at = node.lowerBound(key);
  if (at < node.count && node.key(at) === key) node.setValue(at, value);
  else node.insert(at, key, value);
  return top.number;
}

async function shadowChild(writer: TreeWriter, type: TreeType, node: Node, at: number): Promise<Node> {
  const child = await writer.shadow(node.child(at), type);
  node.setChild(at, child.number);
  return child;
}

/** Makes two of a full child. Returns that into which `key` belongs. */
async function split(writer: TreeWriter, parent: Node, at: number, child: Node, key: number): Promise<Node> {
  const right = await writer.createNode(child.isLeaf, child.valueSize);
  const appending = key > child.key(child.count - 1); // ascending keys leave two thirds behind, not half
  right.takeFromLeft(child, appending ? child.least : Math.floor(child.count / 2));
  parent.insert(at + 1, right.key(0), reference(right.number));
  return key < right.key(0) ? child : right;
}

/** Removes and releases all keys from `begin` until before `end`. Returns the new root. */
export async function removeRange(
  writer: TreeWriter,
  type: TreeType,
  root: number,
  begin: number,
  end: number,
): Promise<number> {
  if (!(await hasKeyIn(writer, root, begin, end))) return root;
  let top = await writer.shadow(root, type);
  await removeWithin(writer, type, top, begin, end, 0);
  while (!top.isLeaf && top.count <= 1) {
    const only = top.count === 1 ? await writer.node(top.child(0)) : await writer.createNode(true, type.valueSize);
    await writer.release(top.number);
    top = only;
  }
  return top.number;
}

async function hasKeyIn(reader: TreeReader, root: number, begin: number, end: number): Promise<boolean> {
  const { leaf, next } = await leafAt(reader, root, begin);
  const at = leaf.lowerBound(begin);
  return at < leaf.count ? leaf.key(at) < end : next !== null && next < end;
}

async function removeWithin(
  writer: TreeWriter,
  type: TreeType,
  node: Node,
  begin: number,
  end: number,
  depth: number,
): Promise<void> {
  if (depth > MAX_DEPTH) throw damagedTree(writer, node.block);
  if (node.isLeaf) {
    const [from, to] = [node.lowerBound(begin), node.lowerBound(end)];
    for (let i = from; i < to; i++) await type.release?.(node.value(i));
    node.remove(from, to);
    return;
  }
  const first = node.childFor(begin);
  for (let at = node.lowerBound(end) - 1; at >= first; at--) {
    const until = at + 1 < node.count ? node.key(at + 1) : Number.POSITIVE_INFINITY;
    if (begin <= node.key(at) && until <= end) {
      await removeTree(writer, type, node.child(at));
      node.remove(at, at + 1);
      continue;
    }
    const child = await shadowChild(writer, type, node, at);
    await removeWithin(writer, type, child, begin, end, depth + 1);
    if (child.count > 0) node.setKey(at, child.key(0));
    else {
      await writer.release(child.number);
      node.remove(at, at + 1);
    }
  }
  await fill(writer, type, node, first, first + 1);
}

/** Releases a tree with all that only it refers to. */
export async function removeTree(writer: TreeWriter, type: TreeType, root: number, depth = 0): Promise<void> {
  const node = await writer.node(root);
  if (depth > MAX_DEPTH) throw damagedTree(writer, node.block);
  if ((await writer.release(root)) > 0) return;
  for (let i = 0; i < node.count; i++)
    if (node.isLeaf) await type.release?.(node.value(i));
    else await removeTree(writer, type, node.child(i), depth + 1);
}

/** Joins those of the children `from` to `to` that have too few entries with a neighbour. */
async function fill(writer: TreeWriter, type: TreeType, node: Node, from: number, to: number): Promise<void> {
  for (let at = Math.max(0, from); at <= to && at < node.count; ) {
    const child = await writer.node(node.child(at));
    if (node.count === 1 || child.count >= child.least) {
      at++;
      continue;
    }
    at = Math.max(0, at - 1);
    await join(writer, type, node, at);
  }
}

/** Makes one node of two neighbours, or gives each half of their entries. */
async function join(writer: TreeWriter, type: TreeType, parent: Node, at: number): Promise<void> {
  const left = await shadowChild(writer, type, parent, at);
  const right = await shadowChild(writer, type, parent, at + 1);
  const total = left.count + right.count;
  // An only child could not be filled by a neighbour: now it has one.
  const [onlyLeft, onlyRight] = [!left.isLeaf && left.count === 1, !left.isLeaf && right.count === 1];
  const seam = left.count;
  if (total <= 2 * left.least) {
    left.takeFromRight(right, right.count);
    await writer.release(right.number);
    parent.remove(at + 1, at + 2);
    if (onlyLeft || onlyRight) await fill(writer, type, left, seam - 1, seam);
    return;
  }
  const half = Math.floor(total / 2);
  if (left.count < half) left.takeFromRight(right, half - left.count);
  else right.takeFromLeft(left, left.count - half);
  if (onlyLeft) await fill(writer, type, left, 0, 0);
  if (onlyRight) await fill(writer, type, right, right.count - 1, right.count - 1);
  parent.setKey(at + 1, right.key(0));
}

function reference(number: number): Uint8Array {
  const value = new Uint8Array(8);
  setCount64(new DataView(value.buffer), 0, number);
  return value;
}
