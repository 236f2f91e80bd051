/**
 * A transaction: the store as it was when each node was first touched, plus its own changes, which nobody else sees.
 * It commits when every node it touched (read, written or found absent) still has the generation it had then, else EAGAIN.
 *
 * Nodes are touched at different times, so a view may contradict itself: a node listed by its parent and yet absent, or present
 * below an absent one. The parent has changed since it was touched then (generations never repeat), and the commit will fail;
 * operations need only go on without stumbling.
 */
import { copyNode, nodeSize, type OwnNode, type StoreNode } from "./node.js";
import { type Change, NodeView } from "./node-view.js";
import { addCharge, type Charge, type Tree } from "./tree.js";
import { xenstoreError } from "./xenstore-error.js";

interface Touched {
  /** The store's state at first touch, pinned; undefined for none. */
  readonly seen: StoreNode | undefined;
  readonly generation: number; // 0 for none
  /** The state in this transaction. */
  node: StoreNode | undefined;
  modified: boolean;
}

const NO_GENERATION = 0;
/** What remembering one node costs, beside its path and its state: about that of the maps' entries. */
const TOUCHED_SIZE = 64; // bytes

/** Where the memory that a transaction keeps is counted. */
export interface MemoryAccount {
  bytes: number;
}

export class Transaction extends NodeView {
  readonly #tree: Tree;
  readonly #touched = new Map<string, Touched>();
  readonly #charges = new Map<number, Charge>();
  readonly #changes = new Map<string, { first: Change; last: Change; exact: boolean }>();
  readonly #limit: number;
  readonly #account: MemoryAccount;
  #bytes = 0;
  #doomed = false;
  #outdated = false;

  /** `limit`: how many nodes it may touch. */
  constructor(tree: Tree, limit: number, account: MemoryAccount) {
    super();
    this.#account = account;
    this.#tree = tree;
    this.#limit = limit;
  }

  get(path: string): StoreNode | undefined {
    return this.#touch(path).node;
  }

  owned(domid: number): number {
    return this.#tree.owned(domid) + (this.#charges.get(domid)?.nodes ?? 0);
  }

  /** Kept for the commit, once per node; a change that also concerns the watches above outweighs an exact one. */
  report(change: Change): void {
    const known = this.#changes.get(change.path);
    if (!known) {
      this.#changes.set(change.path, { first: change, last: change, exact: change.exact });
      this.#keep(TOUCHED_SIZE);
    } else {
      known.last = change;
      known.exact &&= change.exact;
    }
  }

  doom(): void {
    this.#doomed = true;
  }

  /** Something changed that generations do not show (a domain it may have named is gone): the commit will be EAGAIN. */
  outdate(): void {
    this.#outdated = true;
  }

  /**
   * Puts all changes into the store and tells the watches. Throws ENOMEM when creating a node had failed, ENOSPC when
   * `payer` would own more than `nodes`, EAGAIN on a conflict; then nothing has changed. The transaction is over in any case.
   */
  commit(payer: number, nodes: number): void {
    try {
      if (this.#doomed) throw xenstoreError("ENOMEM", "commit xenstore transaction");
      if (this.#outdated || this.#hasConflict()) throw xenstoreError("EAGAIN", "commit xenstore transaction");
      if ((this.#charges.get(payer)?.nodes ?? 0) > 0 && this.owned(payer) > nodes)
        throw xenstoreError("ENOSPC", "commit xenstore transaction");
    } catch (error) {
      this.abort();
      throw error;
    }
    const changes = [...this.#changes.values()];
    const modified = [...this.#touched].filter(([, { modified }]) => modified);
    // A modified state belongs to this transaction alone (see `own`), so the store can keep it as it is.
    this.#tree.install(
      modified.map(([path, { node }]) => [path, node as OwnNode | undefined] as const),
      this.#charges,
    );
    this.abort();
    for (const { first, last, exact } of changes)
      this.#tree.report({ path: first.path, exact, permissions: [...first.permissions, ...last.permissions] });
  }

  /** Ends the transaction; what it did is forgotten. */
  abort(): void {
    for (const { seen } of this.#touched.values()) if (seen) this.#tree.unpin(seen);
    this.#touched.clear();
    this.#changes.clear();
    this.#keep(-this.#bytes);
  }

  protected own(path: string): OwnNode {
    const touched = this.#touch(path);
    if (!touched.modified) {
      this.#keep(nodeSize(touched.node!));
      this.#replace(path, copyNode(touched.node!));
    }
    const node = touched.node as OwnNode;
    node.generation = this.#tree.nextGeneration();
    return node;
  }

  protected insert(path: string, node: OwnNode): void {
    this.#replace(path, node);
  }

  protected drop(path: string): void {
    this.#replace(path, undefined);
  }

  protected charge(domid: number, nodes: number, bytes: number): void {
    addCharge(this.#charges, domid, nodes, bytes);
    if (bytes > 0) this.#keep(bytes);
  }

  /** Never counted down before the end: an upper bound is good enough for a quota. */
  #keep(bytes: number): void {
    this.#bytes += bytes;
    this.#account.bytes += bytes;
  }

  #replace(path: string, node: OwnNode | undefined): void {
    const touched = this.#touch(path);
    touched.node = node;
    touched.modified = true;
    if (node) node.generation = this.#tree.nextGeneration();
  }

  #touch(path: string): Touched {
    let touched = this.#touched.get(path);
    if (!touched) {
      if (this.#touched.size >= this.#limit)
        throw xenstoreError("ENOSPC", "touch one more node in the xenstore transaction");
      const seen = this.#tree.pin(path);
      touched = { seen, generation: seen?.generation ?? NO_GENERATION, node: seen, modified: false };
      this.#touched.set(path, touched);
      this.#keep(TOUCHED_SIZE + path.length + (seen?.value.length ?? 0)); // the store may replace what is pinned here
    }
    return touched;
  }

  #hasConflict(): boolean {
    for (const [path, { generation }] of this.#touched) {
      if ((this.#tree.get(path)?.generation ?? NO_GENERATION) !== generation) return true;
    }
    return false;
  }
}
