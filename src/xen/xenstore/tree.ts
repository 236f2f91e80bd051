/** The store itself: every node by its path. Changes are visible, and told to watches, at once. */
import { copyNode, nodeSize, type OwnNode, type StoreNode } from "./node.js";
import { type Change, NodeView } from "./node-view.js";
import { childPath, INTRODUCE_DOMAIN, nameOf, parentOf, RELEASE_DOMAIN } from "./path.js";
import { DOM0_ONLY } from "./permissions.js";

const ROOTS = ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN];

/** What an owner is charged for, or a change of it. */
export interface Charge {
  nodes: number;
  bytes: number;
}

/** Adds to the domain's charge and returns it. */
export function addCharge(charges: Map<number, Charge>, domid: number, nodes: number, bytes: number): Charge {
  let charge = charges.get(domid);
  if (!charge) charges.set(domid, (charge = { nodes: 0, bytes: 0 }));
  charge.nodes += nodes;
  charge.bytes += bytes;
  return charge;
}

export class Tree extends NodeView {
  readonly #nodes = new Map<string, OwnNode>();
  readonly #owned = new Map<number, Charge>();
  readonly #onChange: (change: Change) => void;
  #generation = 0;

  /** Holds `/` and the two special nodes, all Dom0's alone. */
  constructor(onChange: (change: Change) => void) {
    super();
    this.#onChange = onChange;
    for (const path of ROOTS) this.create(path, new Uint8Array(0), DOM0_ONLY);
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(path: string): StoreNode | undefined {
    return this.#nodes.get(path);
  }

  owned(domid: number): number {
    return this.#owned.get(domid)?.nodes ?? 0;
  }

  /** Bytes of the nodes that `domid` owns, as `nodeSize` counts them. */
  ownedBytes(domid: number): number {
    return this.#owned.get(domid)?.bytes ?? 0;
  }

  report(change: Change): void {
    this.#onChange(change);
  }

  nextGeneration(): number {
    return ++this.#generation;
  }

  doom(): void {} // a request of its own has no effect when it fails

  /** The node's present state will not change until `unpin`; changes go to copies. */
  pin(path: string): StoreNode | undefined {
    const node = this.#nodes.get(path);
    if (node) node.pins++;
    return node;
  }

  unpin(node: StoreNode): void {
    (node as OwnNode).pins--;
  }

  /** What a transaction ends with: these states, or nothing at a path, and the owners' accounts changed by `charges`. */
  install(states: Iterable<readonly [string, OwnNode | undefined]>, charges: ReadonlyMap<number, Charge>): void {
    for (const [path, node] of states) {
      if (node) this.insert(path, node);
      else this.drop(path);
    }
    for (const [domid, { nodes, bytes }] of charges) this.charge(domid, nodes, bytes);
  }

  protected own(path: string): OwnNode {
    let node = this.#nodes.get(path)!;
    if (node.pins > 0) this.#nodes.set(path, (node = copyNode(node)));
    node.generation = this.nextGeneration();
    return node;
  }

  protected insert(path: string, node: OwnNode): void {
    node.generation = this.nextGeneration();
    this.#nodes.set(path, node);
  }

  protected drop(path: string): void {
    this.#nodes.delete(path);
  }

  protected charge(domid: number, nodes: number, bytes: number): void {
    const owned = addCharge(this.#owned, domid, nodes, bytes);
    if (owned.nodes === 0) this.#owned.delete(domid);
  }

  /** Everything that is wrong with the tree, in words; empty when every child exists, every node is listed and every account is exact. */
  inconsistencies(): string[] {
    const found: string[] = [];
    const counted = new Map<number, Charge>();
    for (const [path, node] of this.#nodes) {
      addCharge(counted, node.permissions[0].domid, 1, nodeSize(node));
      if (node.pins < 0) found.push(`${path} has ${node.pins} pins`);
      for (const name of node.children) {
        if (!this.#nodes.has(childPath(path, name))) found.push(`${path} lists ${name}, which does not exist`);
      }
      const parent = parentOf(path);
      if (parent === undefined ? !ROOTS.includes(path) : !this.#nodes.get(parent)?.children.has(nameOf(path)))
        found.push(`${path} is listed nowhere`);
    }
    for (const domid of new Set([...counted.keys(), ...this.#owned.keys()])) {
      const { nodes, bytes } = counted.get(domid) ?? { nodes: 0, bytes: 0 };
      if (this.owned(domid) !== nodes || this.ownedBytes(domid) !== bytes)
        found.push(
          `domain ${domid} is charged for ${this.owned(domid)} nodes of ${this.ownedBytes(domid)} bytes, it owns ${nodes} of ${bytes}`,
        );
    }
    return found;
  }
}
