/**
 * Metadata contexts: what block status can tell about an export, how a client names it, and the runs that answer it.
 * Known: base:allocation, and QEMU's qemu:dirty-bitmap:NAME for an export that has a bitmap.
 */
import type { BlockDevice } from "../block/device.js";
import { RunList, type StatusRun } from "./allocation.js";
import { BASE_ALLOCATION, DIRTY, DIRTY_BITMAP, STATE } from "./codes.js";
import type { Export } from "./exports.js";

/** Which bytes were written since some moment, as whoever counts them can tell. */
export interface DirtyBitmap {
  /** Follows `qemu:dirty-bitmap:`. */
  readonly name: string;
  /** Ascending, gapless, covers exactly the range; what is unsure is dirty. */
  runs(offset: number, length: number): AsyncIterable<DirtyRun>;
}

export interface DirtyRun {
  readonly length: number; // bytes, above 0
  readonly dirty: boolean;
}

/** A context that a client selected for its connection. */
export interface MetaContext {
  /** Names the context in replies. */
  readonly id: number;
  readonly name: string;
}

/** Descriptors in one reply; the client asks again for what is left. */
const MAX_DESCRIPTORS = 4096;
const ALLOCATION: MetaContext = { id: 1, name: BASE_ALLOCATION };
const BITMAP_ID = 2;

/** The empty text without a bitmap. */
export function contextName(bitmap: DirtyBitmap | undefined): string {
  return bitmap ? DIRTY_BITMAP + bitmap.name : "";
}

/** What the queries of an option mean for an export, each context once. In a list, no query means all, and a namespace all within it. */
export function matchContexts(exported: Export, queries: readonly string[], listing: boolean): readonly MetaContext[] {
  const all = exported.dirtyBitmap
    ? [ALLOCATION, { id: BITMAP_ID, name: contextName(exported.dirtyBitmap) }]
    : [ALLOCATION];
  if (listing && queries.length === 0) return all;
  return all.filter(({ name }) => queries.some((query) => query === name || wildcard(query, name, listing)));
}

/** base: may be listed but not selected as a whole; the namespaces of QEMU may be both. */
function wildcard(query: string, name: string, listing: boolean): boolean {
  if (query === "base:") return listing && name === BASE_ALLOCATION;
  return (query === "qemu:" || query === DIRTY_BITMAP) && name.startsWith(DIRTY_BITMAP);
}

/** The runs of one context: at most one when `one`, never empty. */
export function contextRuns(
  exported: Export,
  { id }: MetaContext,
  offset: number,
  length: number,
  one: boolean,
): Promise<readonly StatusRun[]> {
  if (id === ALLOCATION.id) return allocation(exported.device, offset, length, one);
  return dirtyRuns(exported, offset, length, one);
}

/** The device's extents in base:allocation's terms: at most one run when `one`, never empty. */
export async function allocation(
  device: BlockDevice,
  offset: number,
  length: number,
  one: boolean,
): Promise<readonly StatusRun[]> {
  const list = new RunList(offset, device.blockSize, one ? 1 : MAX_DESCRIPTORS);
  for await (const extent of device.extents(offset, length)) {
    const status = (extent.zero ? STATE.ZERO : 0) | (extent.zero && !extent.data ? STATE.HOLE : 0);
    if (!list.add(extent.length, status)) break;
  }
  if (list.runs.length === 0) throw new Error(`${device.label} has no extents at ${offset}`);
  return list.runs;
}

const CLEAN = 1 << 1;

/** A block that is partly dirty is dirty: the list keeps what holds for all of a block, which is here only cleanness. */
async function dirtyRuns(
  { device, dirtyBitmap }: Export,
  offset: number,
  length: number,
  one: boolean,
): Promise<readonly StatusRun[]> {
  const list = new RunList(offset, device.blockSize, one ? 1 : MAX_DESCRIPTORS);
  for await (const run of dirtyBitmap!.runs(offset, length)) if (!list.add(run.length, run.dirty ? 0 : CLEAN)) break;
  if (list.runs.length === 0) throw new Error(`the bitmap of ${device.label} has no runs at ${offset}`);
  return list.runs.map((run) => ({ ...run, status: run.status === CLEAN ? 0 : DIRTY }));
}
