/** All trees of a pool's metadata looked through, each block once: what is wrong with them, and how often each block is referred to. */
import { DiskError } from "../../errors.js";
import { type BlockKind, count64 } from "./block.js";
import type { BlockCache } from "./block-cache.js";
import { BlockCounts } from "./block-counts.js";
import { DEVICE_DETAILS, type DeviceDetails, THIN_SUPERBLOCK, type ThinSuperblock } from "./layout.js";
import { decodeMapping } from "./metadata.js";
import { Node } from "./node.js";
import { MAX_DEPTH } from "./tree-read.js";

/** What a tree's leaf entries are. Returns how many mappings lie beneath the entry. */
export type VisitEntry = (key: number, value: Uint8Array) => Promise<number> | number;

export class MetadataWalk {
  readonly cache: BlockCache;
  readonly superblock: ThinSuperblock;
  /** References to metadata blocks. */
  readonly metadata = new BlockCounts();
  /** References to data blocks, of each leaf once. */
  readonly data = new BlockCounts();
  readonly devices = new Map<number, { details: DeviceDetails; mapped: number }>();
  /** What is wrong with the trees. */
  readonly problems: string[] = [];
  /** Mappings beneath each node that was looked at. */
  readonly #mapped = new Map<number, number>();

  constructor(cache: BlockCache, superblock: ThinSuperblock) {
    this.cache = cache;
    this.superblock = superblock;
  }

  /** The devices and their mappings, also those that a metadata snapshot holds. */
  async devicesAndMappings(): Promise<void> {
    this.metadata.add(0);
    const { heldRoot } = this.superblock;
    await this.#rootsOf(this.superblock, true);
    if (heldRoot === 0) return;
    await this.#try(`metadata snapshot in block ${heldRoot}`, async () => {
      this.metadata.add(heldRoot);
      const held = THIN_SUPERBLOCK.decode((await this.cache.get(heldRoot, "superblock")).bytes);
      await this.#rootsOf(held, false);
    });
  }

  async #rootsOf({ mappingRoot, detailsRoot }: ThinSuperblock, own: boolean): Promise<void> {
    const mapped = new Map<number, number>();
    await this.tree("tree of devices", mappingRoot, 8, async (id, value) => {
      const root = count64(new DataView(value.buffer, value.byteOffset, 8), 0);
      const beneath = await this.tree(`mappings of device ${id}`, root, 8, (block, entry) =>
        this.#mapping(id, block, entry),
      );
      mapped.set(id, beneath);
      return beneath;
    });
    await this.tree("tree of details", detailsRoot, DEVICE_DETAILS.size, (id, value) => {
      const details = DEVICE_DETAILS.decode(value);
      if (!own) return 0;
      if (!mapped.has(id)) this.problems.push(`device ${id} has details and no mappings`);
      this.devices.set(id, { details, mapped: mapped.get(id) ?? 0 });
      return 0;
    });
    if (!own) return;
    for (const id of mapped.keys())
      if (!this.devices.has(id)) this.problems.push(`device ${id} has mappings and no details`);
  }

  #mapping(id: number, block: number, value: Uint8Array): number {
    const { dataBlock, time } = decodeMapping(value);
    if (time > this.superblock.time)
      this.problems.push(`device ${id} maps block ${block} at time ${time}, the pool's is ${this.superblock.time}`);
    this.data.add(dataBlock);
    return 1;
  }

  /** One reference to a tree. Returns how many mappings lie beneath it; damaged parts are told and left out. */
  async tree(what: string, root: number, valueSize: number, visit: VisitEntry): Promise<number> {
    return this.#node({ what, valueSize, visit, leafDepth: null }, root, null, Number.POSITIVE_INFINITY, 0);
  }

  async #node(tree: WalkedTree, number: number, first: number | null, end: number, depth: number): Promise<number> {
    if (this.metadata.add(number) > 0) return this.#mapped.get(number) ?? 0;
    let mapped = 0;
    await this.#try(tree.what, async () => {
      const node = new Node(await this.cache.get(number, "node"), this.cache.device.label);
      this.#judge(tree, node, first, end, depth);
      const valueSize = node.isLeaf ? tree.valueSize : 8;
      if (node.valueSize !== valueSize)
        throw new DiskError("CORRUPT", `block ${number} has values of ${node.valueSize} bytes, ${valueSize} are right`);
      if (depth > MAX_DEPTH) throw new DiskError("CORRUPT", `it is deeper than ${MAX_DEPTH} nodes`);
      // The cache may give the block up while its children are looked at; these bytes stay.
      for (let i = 0; i < node.count; i++) {
        const until = i + 1 < node.count ? node.key(i + 1) : end;
        mapped += node.isLeaf
          ? await tree.visit(node.key(i), node.value(i))
          : await this.#node(tree, node.child(i), node.key(i), until, depth + 1);
      }
    });
    this.#mapped.set(number, mapped);
    await this.cache.trim();
    return mapped;
  }

  #judge(tree: WalkedTree, node: Node, first: number | null, end: number, depth: number): void {
    const wrong = (found: string) => this.problems.push(`${tree.what}: block ${node.number} ${found}`);
    if (first !== null && node.count < node.least) wrong(`has ${node.count} entries, allowed from ${node.least} on`);
    if (node.count === 0 && !node.isLeaf) wrong("has no entries and is no leaf");
    for (let i = 0; i < node.count; i++) {
      if (i > 0 && node.key(i) <= node.key(i - 1))
        return void wrong(`has key ${node.key(i)} behind ${node.key(i - 1)}`);
      if (node.key(i) >= end) return void wrong(`has key ${node.key(i)}, its neighbour begins with ${end}`);
    }
    if (first !== null && node.count > 0 && node.key(0) < first)
      wrong(`begins with key ${node.key(0)}, its parent says ${first}`);
    if (!node.isLeaf) return;
    tree.leafDepth ??= depth;
    if (tree.leafDepth !== depth) wrong(`is a leaf ${depth} nodes deep, others are ${tree.leafDepth} deep`);
  }

  /** One reference to a block that has no children. */
  async single(what: string, number: number, kind: BlockKind): Promise<void> {
    this.metadata.add(number);
    await this.#try(what, async () => void (await this.cache.get(number, kind)));
  }

  async #try(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
      this.problems.push(`${what}: ${error.message}`);
    }
  }
}

interface WalkedTree {
  readonly what: string;
  readonly valueSize: number;
  readonly visit: VisitEntry;
  leafDepth: number | null;
}
