/**
 * The nodes as one reader and writer sees them: the store itself (`tree.ts`) or the store inside a transaction (`transaction.ts`).
 * Here is what both have in common: a node is listed by its parent, and its owner is charged for it.
 */
import { newNode, nodeSize, type OwnNode, type StoreNode } from "./node.js";
import { childPath, nameOf, parentOf } from "./path.js";
import type { Permissions } from "./permissions.js";

/** A change that watches may be told of. */
export interface Change {
  readonly path: string;
  /** Only watches on this very path, not those above: the node went with an ancestor, which has a change of its own. */
  readonly exact: boolean;
  /** Who may read under one of these lists (of node and parent, before and after) may know of the change. */
  readonly permissions: readonly Permissions[];
}

export abstract class NodeView {
  /** The node at an absolute path. Callers change it only through this view. */
  abstract get(path: string): StoreNode | undefined;
  /** Nodes that `domid` owns, as this view sees them. */
  abstract owned(domid: number): number;
  /** Tells the watches: at once, or when the transaction ends well. */
  abstract report(change: Change): void;
  /** Creating a node failed half-way through a client's work: a transaction can only end without effect. */
  abstract doom(): void;

  /** The existing node at `path`, safe to change in place, with a new generation. */
  protected abstract own(path: string): OwnNode;
  protected abstract insert(path: string, node: OwnNode): void;
  protected abstract drop(path: string): void;
  /** `bytes` as `nodeSize` counts them. */
  protected abstract charge(domid: number, nodes: number, bytes: number): void;

  /** The parent exists and the node does not. */
  create(path: string, value: Uint8Array, permissions: Permissions): void {
    const parent = parentOf(path);
    if (parent !== undefined) this.#list(parent, nameOf(path));
    const node = newNode(value, permissions);
    this.insert(path, node);
    this.charge(permissions[0].domid, 1, nodeSize(node));
  }

  setValue(path: string, value: Uint8Array): void {
    const node = this.own(path);
    this.charge(node.permissions[0].domid, 0, value.length - node.value.length);
    node.value = value;
  }

  setPermissions(path: string, permissions: Permissions): void {
    const node = this.own(path);
    this.charge(node.permissions[0].domid, -1, -nodeSize(node));
    node.permissions = permissions;
    this.charge(permissions[0].domid, 1, nodeSize(node));
  }

  /** Removes a whole subtree, given as `subtree` lists it. */
  remove(paths: readonly string[]): void {
    const top = paths[0]!;
    for (const path of paths) {
      const node = this.get(path)!;
      this.charge(node.permissions[0].domid, -1, -nodeSize(node));
      this.drop(path);
    }
    const parent = parentOf(top)!;
    if (this.get(parent)) this.#unlist(parent, nameOf(top));
  }

  /** The node at `top` and everything below it, parents before children. Needs no stack however deep the tree is. */
  subtree(top: string): string[] {
    const paths = [top];
    for (let i = 0; i < paths.length; i++) {
      const path = paths[i]!;
      for (const name of this.get(path)!.children) {
        const child = childPath(path, name);
        if (this.get(child)) paths.push(child);
      }
    }
    return paths;
  }

  #list(parent: string, name: string): void {
    const { permissions, children } = this.own(parent);
    if (children.has(name)) return; // a transaction that will not commit may see a name without its node
    children.add(name);
    this.charge(permissions[0].domid, 0, name.length + 1);
  }

  #unlist(parent: string, name: string): void {
    const { permissions, children } = this.own(parent);
    if (children.delete(name)) this.charge(permissions[0].domid, 0, -(name.length + 1));
  }
}
