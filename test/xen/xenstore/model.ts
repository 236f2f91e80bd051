/**
 * The store again, as plainly as it can be said: a map of paths, searched from end to end, copied for every transaction.
 * A transaction is judged as a replay: when it committed, the same requests one after the other must give the same replies now.
 */

export interface Step {
  readonly verb: "READ" | "WRITE" | "MKDIR" | "RM" | "DIRECTORY" | "GET_PERMS" | "SET_PERMS";
  readonly path: string;
  readonly value: string;
  readonly permissions: readonly string[];
}

interface ModelNode {
  value: string;
  permissions: string[];
}

/** What a watch hears of: `exact` only at that very path; who may read under one of the lists. */
export interface ModelChange {
  readonly path: string;
  readonly exact: boolean;
  readonly lists: readonly string[][];
}

const NEEDS = { READ: "r", DIRECTORY: "r", GET_PERMS: "r", WRITE: "w", MKDIR: "w", RM: "w", SET_PERMS: "o" } as const;
const GRANTS: Record<string, string> = { n: "", r: "r", w: "w", b: "rw" };

export class Model {
  nodes = new Map<string, ModelNode>([["/", { value: "", permissions: ["n0"] }]]);
  /** Grows with every change. */
  version = 0;
  /** Since somebody emptied it. */
  changes: ModelChange[] = [];

  copy(): Model {
    const copy = new Model();
    copy.nodes = new Map([...this.nodes].map(([path, node]) => [path, { ...node }]));
    return copy;
  }

  owned(domid: number): number {
    return [...this.nodes.values()].filter(({ permissions }) => Number(permissions[0]!.slice(1)) === domid).length;
  }

  /** The reply's text. `limit`: nodes that a guest may own. */
  perform(domid: number, step: Step, limit: number): string {
    const { verb, path } = step;
    const node = this.nodes.get(path);
    const asked = node ?? this.nodes.get(this.#above(path));
    const rights = this.#rights(domid, asked!);
    if (verb === "SET_PERMS" && domid !== 0 && step.permissions.length > 5) return "ENOSPC";
    // A missing node is denied unless the caller has some of the rights on what is above.
    if (!rights.includes(NEEDS[verb]) && !(verb === "SET_PERMS" && !node && rights.includes("w"))) return "EACCES";
    if (verb === "RM") return this.#rm(path, node);
    if (verb === "WRITE" || verb === "MKDIR") return this.#make(domid, step, node, limit);
    if (!node) return "ENOENT";
    if (verb === "READ") return node.value;
    if (verb === "DIRECTORY") return this.#children(path).join("|");
    if (verb === "GET_PERMS") return node.permissions.join("|");
    if (domid !== 0 && step.permissions[0]!.slice(1) !== node.permissions[0]!.slice(1)) return "EPERM";
    const before = this.#lists(path);
    node.permissions = [...step.permissions];
    this.version++;
    this.changes.push({ path, exact: false, lists: [...before, node.permissions] });
    return "OK";
  }

  forget(domid: number): void {
    for (const [path, { permissions }] of [...this.nodes])
      if (this.nodes.has(path) && Number(permissions[0]!.slice(1)) === domid) this.#removeTree(path);
    for (const node of this.nodes.values()) {
      const [owner, ...others] = node.permissions;
      node.permissions = [owner!, ...others.filter((entry) => Number(entry.slice(1)) !== domid)];
    }
    this.version++;
  }

  /** Whether a watch that `domid` has set at `watched` hears of the change. */
  hears(domid: number, watched: string, { path, exact, lists }: ModelChange): boolean {
    const isAt = exact ? path === watched : path === watched || watched === "/" || path.startsWith(`${watched}/`);
    return isAt && lists.some((permissions) => this.#rights(domid, { value: "", permissions }).includes("r"));
  }

  dump(): string[] {
    return [...this.nodes]
      .map(([path, { value, permissions }]) => `${path}=${value} ${permissions} [${this.#children(path)}]`)
      .sort();
  }

  #rm(path: string, node: ModelNode | undefined): string {
    if (!node) return this.nodes.has(parent(path)) ? "OK" : "ENOENT";
    if (path === "/") return "EINVAL";
    this.#removeTree(path);
    this.version++;
    return "OK";
  }

  #make(domid: number, { verb, path, value }: Step, node: ModelNode | undefined, limit: number): string {
    if (node && verb === "MKDIR") return "OK";
    if (node) node.value = value;
    else {
      const missing: string[] = [];
      for (let at = path; !this.nodes.has(at); at = parent(at)) missing.unshift(at);
      if (domid !== 0 && this.owned(domid) + missing.length > limit) return "ENOSPC";
      for (const each of missing) {
        const [owner, ...others] = this.nodes.get(parent(each))!.permissions;
        const own = domid === 0 ? owner! : `${owner![0]}${domid}`;
        this.nodes.set(each, { value: each === path && verb === "WRITE" ? value : "", permissions: [own, ...others] });
      }
    }
    this.version++;
    this.changes.push({ path, exact: false, lists: this.#lists(path) });
    return "OK";
  }

  /** Of the node and of what is above it. */
  #lists(path: string): string[][] {
    return [path, parent(path)].map((each) => this.nodes.get(each)!.permissions);
  }

  #rights(domid: number, { permissions: [owner, ...others] }: ModelNode): string {
    if (domid === 0 || Number(owner!.slice(1)) === domid) return "rwo";
    return GRANTS[(others.find((entry) => Number(entry.slice(1)) === domid) ?? owner!)[0]!]!;
  }

  #above(path: string): string {
    let at = parent(path);
    while (!this.nodes.has(at)) at = parent(at);
    return at;
  }

  #children(path: string): string[] {
    return [...this.nodes.keys()]
      .filter((each) => each !== "/" && parent(each) === path)
      .map((each) => each.slice(each.lastIndexOf("/") + 1));
  }

  #removeTree(path: string): void {
    const going = [...this.nodes.keys()].filter((each) => each === path || each.startsWith(`${path}/`));
    for (const each of going) this.changes.push({ path: each, exact: each !== path, lists: this.#lists(each) });
    for (const each of going) this.nodes.delete(each);
  }
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
