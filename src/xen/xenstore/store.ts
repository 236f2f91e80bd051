/**
 * What clients can do to nodes, with the store's rules: permissions, errors that do not betray what a caller may not see,
 * quotas, and which changes watches hear of. Every operation works on a view: the tree or a transaction. It has all of its
 * effect or none, and throws a `DiskError` with the protocol's name in `details.errno`.
 */
import { nodeSize, type StoreNode } from "./node.js";
import type { Change, NodeView } from "./node-view.js";
import { INTRODUCE_DOMAIN, parentOf, quote, RELEASE_DOMAIN } from "./path.js";
import {
  accessOf,
  type Caller,
  inheritedBy,
  OWNER,
  type Permissions,
  READ,
  WRITE,
  withoutDomain,
} from "./permissions.js";
import { type Quotas, quotas } from "./quotas.js";
import { type MemoryAccount, Transaction } from "./transaction.js";
import { Tree } from "./tree.js";
import { xenstoreErrno, xenstoreError } from "./xenstore-error.js";

const NO_VALUE = new Uint8Array(0);

export class Store {
  readonly tree: Tree;
  readonly quotas: Quotas;
  readonly #open = new Set<Transaction>();

  /** `onChange` hears of every change that has become visible, after it has. */
  constructor(onChange: (change: Change) => void, limits: Quotas = quotas()) {
    this.tree = new Tree(onChange);
    this.quotas = limits;
  }

  read(caller: Caller, view: NodeView, path: string): Uint8Array {
    return this.#find(caller, view, path, READ).value;
  }

  /** The names below a node, oldest first, and the generation that tells whether a later listing is still of the same node. */
  directory(caller: Caller, view: NodeView, path: string): { names: readonly string[]; generation: number } {
    const { children, generation } = this.#find(caller, view, path, READ);
    return { names: [...children], generation };
  }

  permissions(caller: Caller, view: NodeView, path: string): Permissions {
    return this.#find(caller, view, path, READ).permissions;
  }

  /** Creates what is missing of the path, with empty values above the last name. `value` is kept. */
  write(caller: Caller, view: NodeView, path: string, value: Uint8Array): void {
    const node = this.#findOrMissing(caller, view, path, WRITE);
    if (node) {
      this.#checkSize(caller, path, { ...node, value });
      view.setValue(path, value);
    } else this.#create(caller, view, path, value);
    view.report(change(view, path));
  }

  /** An existing node stays as it is. */
  mkdir(caller: Caller, view: NodeView, path: string): void {
    if (this.#findOrMissing(caller, view, path, WRITE)) return;
    this.#create(caller, view, path, NO_VALUE);
    view.report(change(view, path));
  }

  /** Removes the node with everything below it. A missing node is no error when its parent exists. */
  rm(caller: Caller, view: NodeView, path: string): void {
    if (!this.#findOrMissing(caller, view, path, WRITE)) {
      const parent = parentOf(path);
      if (parent === undefined || !view.get(parent))
        throw xenstoreError("ENOENT", `remove xenstore node ${quote(path)}`);
      return;
    }
    if (parentOf(path) === undefined) throw xenstoreError("EINVAL", `remove xenstore node ${quote(path)}`);
    removeSubtree(view, path);
  }

  /** Only the owner and Dom0 may; only Dom0 may change the owner. */
  setPermissions(caller: Caller, view: NodeView, path: string, permissions: Permissions): void {
    const what = `set permissions of xenstore node ${quote(path)}`;
    if (!caller.privileged && permissions.length > this.quotas.permissions) throw xenstoreError("ENOSPC", what);
    if (permissions[0].void) throw xenstoreError("ENOENT", what);
    const node = this.#find(caller, view, path, WRITE | OWNER);
    if (!caller.privileged && permissions[0].domid !== node.permissions[0].domid) throw xenstoreError("EPERM", what);
    this.#checkSize(caller, path, { ...node, permissions });
    const before = change(view, path).permissions;
    view.setPermissions(path, permissions);
    view.report({ path, exact: false, permissions: [...before, permissions] });
  }

  /** Transactions that are neither committed nor aborted, of all clients. */
  get openTransactions(): number {
    return this.#open.size;
  }

  /** How many transactions a domain may have open is its connection's matter. `account`: where its memory is counted. */
  begin(caller: Caller, account: MemoryAccount = { bytes: 0 }): Transaction {
    const transaction = new Transaction(
      this.tree,
      caller.privileged ? Number.POSITIVE_INFINITY : this.quotas.transactionNodes,
      account,
    );
    this.#open.add(transaction);
    return transaction;
  }

  commit(caller: Caller, transaction: Transaction): void {
    this.#open.delete(transaction);
    transaction.commit(caller.domid, caller.privileged ? Number.POSITIVE_INFINITY : this.quotas.nodes);
  }

  abort(transaction: Transaction): void {
    this.#open.delete(transaction);
    transaction.abort();
  }

  /** Watches hear of a domain that came or went. */
  announce(special: typeof INTRODUCE_DOMAIN | typeof RELEASE_DOMAIN): void {
    this.tree.report({ path: special, exact: true, permissions: [this.tree.get(special)!.permissions] });
  }

  /** What a dead domain owned goes, with everything below it, and no list names it any more: its number may be used again. */
  forgetDomain(domid: number): void {
    for (const path of this.tree.subtree("/")) {
      const permissions = this.tree.get(path)?.permissions;
      if (!permissions) continue; // it went with a node above
      if (permissions[0].domid === domid) removeSubtree(this.tree, path);
      else this.#strike(path, permissions, domid);
    }
    for (const path of [INTRODUCE_DOMAIN, RELEASE_DOMAIN] as const) {
      const [owner, ...others] = this.tree.get(path)!.permissions;
      const kept: Permissions = [owner.domid === domid ? { ...owner, domid: 0 } : owner, ...others];
      this.tree.setPermissions(path, withoutDomain(kept, domid));
    }
    // An open transaction may have named the domain in nodes of its own; let its client start over.
    for (const transaction of this.#open) transaction.outdate();
  }

  #strike(path: string, permissions: Permissions, domid: number): void {
    const kept = withoutDomain(permissions, domid);
    if (kept !== permissions) this.tree.setPermissions(path, kept);
  }

  #find(caller: Caller, view: NodeView, path: string, need: number): StoreNode {
    const node = this.#findOrMissing(caller, view, path, need);
    if (!node) throw xenstoreError("ENOENT", `use xenstore node ${quote(path)}`);
    return node;
  }

  /** The node, or undefined when there is none and the caller may know that: it has `need` on the nearest node above. */
  #findOrMissing(caller: Caller, view: NodeView, path: string, need: number): StoreNode | undefined {
    const node = view.get(path);
    if (node && (accessOf(caller, node.permissions) & need) === need) return node;
    if (node || !this.#mayKnowAbsence(caller, view, path, need))
      throw xenstoreError("EACCES", `use xenstore node ${quote(path)}`);
    return undefined;
  }

  #mayKnowAbsence(caller: Caller, view: NodeView, path: string, need: number): boolean {
    const { node } = nearestAbove(view, path);
    return node === undefined ? caller.privileged : (accessOf(caller, node.permissions) & need) !== 0;
  }

  #create(caller: Caller, view: NodeView, path: string, value: Uint8Array): void {
    const { node: above, missing } = nearestAbove(view, path);
    if (!above) throw xenstoreError("EINVAL", `create xenstore node ${quote(path)}`); // an unknown special name
    const permissions = inheritedBy(caller, above.permissions);
    try {
      // Everything is checked before the first node is made: what fails leaves nothing behind.
      if (!caller.privileged && view.owned(caller.domid) + missing.length > this.quotas.nodes)
        throw xenstoreError("ENOSPC", `create xenstore node ${quote(path)}`);
      this.#checkSizes(caller, above, permissions, missing, value);
    } catch (error) {
      if (xenstoreErrno(error) === "ENOSPC") view.doom();
      throw error;
    }
    for (const each of missing) view.create(each, each === path ? value : NO_VALUE, permissions);
  }

  #checkSizes(
    caller: Caller,
    above: StoreNode,
    permissions: Permissions,
    missing: readonly string[],
    value: Uint8Array,
  ): void {
    if (caller.privileged) return;
    const names = missing.map((path) => path.slice(path.lastIndexOf("/") + 1));
    this.#checkSize(caller, missing[0]!, { ...above, children: new Set([...above.children, names[0]!]) });
    for (const [i, path] of missing.entries()) {
      const below = names[i + 1];
      const children = new Set(below === undefined ? [] : [below]);
      this.#checkSize(caller, path, { value: below === undefined ? value : NO_VALUE, permissions, children });
    }
  }

  #checkSize(caller: Caller, path: string, node: Pick<StoreNode, "value" | "permissions" | "children">): void {
    if (!caller.privileged && nodeSize(node) > this.quotas.nodeSize)
      throw xenstoreError("ENOSPC", `store so much in xenstore node ${quote(path)}`);
  }
}

/** The nearest existing node above a path, and the paths between, top first, ending with `path` itself. */
function nearestAbove(view: NodeView, path: string): { node: StoreNode | undefined; missing: string[] } {
  const missing = [path];
  for (let above = parentOf(path); above !== undefined; above = parentOf(above)) {
    const node = view.get(above);
    if (node) return { node, missing: missing.reverse() };
    missing.push(above);
  }
  return { node: undefined, missing };
}

function change(view: NodeView, path: string, exact = false): Change {
  const parent = parentOf(path);
  const above = parent === undefined ? undefined : view.get(parent);
  const own = view.get(path)!.permissions;
  return { path, exact, permissions: above ? [own, above.permissions] : [own] };
}

function removeSubtree(view: NodeView, top: string): void {
  const paths = view.subtree(top);
  // Taken while the nodes are there. It also touches the parent: a transaction that may not touch it stops here, before any change.
  const changes = paths.map((path) => change(view, path, path !== top)).reverse();
  view.remove(paths);
  for (const each of changes) view.report(each);
}
