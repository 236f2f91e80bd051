/** One node of the store, and what its bytes count against a quota. */
import type { Permissions } from "./permissions.js";

export interface StoreNode {
  /** Never changed in place; a new value replaces it. */
  readonly value: Uint8Array;
  readonly permissions: Permissions;
  /** Names, oldest first. */
  readonly children: ReadonlySet<string>;
  /** Changes with every change of the node; never the same for two states of one path. */
  readonly generation: number;
}

/** The same node in the hands of the one view that may change it. */
export interface OwnNode extends StoreNode {
  value: Uint8Array;
  permissions: Permissions;
  readonly children: Set<string>;
  generation: number;
  /** Open transactions that hold this state: while there are any, a change goes to a copy. */
  pins: number;
}

// xs_tdb_record_hdr: generation, number of permissions, bytes of value, bytes of child names; then 8 bytes per permission.
const HEADER_SIZE = 20;
const PERMISSION_SIZE = 8;

/** Bytes as C xenstored counts them for its node size quota. */
export function nodeSize(node: Pick<StoreNode, "value" | "permissions" | "children">): number {
  let size = HEADER_SIZE + PERMISSION_SIZE * node.permissions.length + node.value.length;
  for (const name of node.children) size += name.length + 1;
  return size;
}

/** A state of its own with the same contents. */
export function copyNode(node: StoreNode): OwnNode {
  const { value, permissions, generation } = node;
  return { value, permissions, children: new Set(node.children), generation, pins: 0 };
}

export function newNode(value: Uint8Array, permissions: Permissions): OwnNode {
  return { value, permissions, children: new Set(), generation: 0, pins: 0 };
}
