/**
 * Moves a partition's bytes, then its entry, so that a cut at any point loses nothing.
 *
 * Source and target may overlap. The bytes are copied in pieces, the piece nearest to the target first; each piece is durable
 * at its new place, and the journal says so, before the next one may overwrite its old place. A piece is never longer than
 * the distance of the move, so no piece overwrites itself; short distances would make that slow, and then every piece is first
 * kept in the journal instead.
 *
 *   source        [ 0 | 1 | 2 | 3 ]          to the left: 0 first.  To the right: from the other end.
 *   target   [ 0 | 1 | 2 | 3 ]
 *
 * The table shows the old place until all bytes are at the new one. After a cut, `resume` goes on and `rollback` goes back.
 */

import { byteGranular } from "../../block/aligned.js";
import { copyDevice } from "../../block/copy.js";
import type { BlockDevice } from "../../block/device.js";
import { crc32 } from "../../bytes/checksum.js";
import { DiskError } from "../../errors.js";
import { type MovePlan, planMove } from "../changes/move.js";
import { findPartition, type PartitionTable } from "../table.js";
import { writePlan } from "../write.js";
import type { MoveJournal, MoveState } from "./journal.js";

/** Largest piece: little to do again after a cut, few journal entries. */
const PIECE = 64 << 20;
/** Below this distance, pieces as long as the distance would be too many. */
const SHORT_DISTANCE = 4 << 20;
/** Pieces that are kept in the journal. */
const KEPT_PIECE = 8 << 20;

export interface MoveOptions {
  /** Bytes at their new place, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Looked at between pieces: the move stops there, as after a cut, and the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

type ReadTable = () => Promise<PartitionTable>;

/** Starts and finishes a move. `plan` was made from the disk's present table. */
export async function runMove(
  disk: BlockDevice,
  plan: MovePlan,
  readTable: ReadTable,
  journal: MoveJournal,
  options: MoveOptions = {},
): Promise<void> {
  const device = byteGranular(disk);
  if (plan.from === plan.to) return writePlan(device, plan.table);
  const { number, from, to, size } = plan;
  const distance = Math.abs(from - to);
  const overlaps = distance < size;
  const keepsBytes = overlaps && distance < SHORT_DISTANCE;
  const piece = keepsBytes ? KEPT_PIECE : overlaps ? Math.min(PIECE, distance) : PIECE;
  const tableId = plan.table.after.id;
  const state: MoveState = {
    version: 1,
    tableId,
    diskSize: device.size,
    number,
    from,
    to,
    size,
    piece,
    keepsBytes,
    direction: "forward",
    done: 0,
    kept: null,
  };
  journal.save(state);
  await goForward(device, state, readTable, journal, options);
}

/** Goes on with what the journal tells. Throws `DENIED` when the disk's table is not the one of the journal. */
export async function resumeMove(
  disk: BlockDevice,
  state: MoveState,
  readTable: ReadTable,
  journal: MoveJournal,
  options: MoveOptions = {},
): Promise<void> {
  const device = byteGranular(disk);
  checkSameDisk(device, await readTable(), state, journal);
  const forward: MoveState = state.direction === "forward" ? state : { ...state, direction: "forward", kept: null };
  if (state.direction === "back" && state.kept !== null) {
    // The piece in hand was on its way back; first it gets there.
    await finishPieceBack(device, state, journal);
    journal.save({ ...forward, done: state.done - 1 });
    return goForward(device, { ...forward, done: state.done - 1 }, readTable, journal, options);
  }
  await goForward(device, forward, readTable, journal, options);
}

/** Brings all bytes and the table back to where they were. */
export async function rollBackMove(
  disk: BlockDevice,
  state: MoveState,
  readTable: ReadTable,
  journal: MoveJournal,
  options: MoveOptions = {},
): Promise<void> {
  const device = byteGranular(disk);
  const table = await readTable();
  const at = checkSameDisk(device, table, state, journal);
  if (at === state.to) await clearTheWay(device, planMove(table, state.number, state.from));
  await goBack(device, state, journal, options);
  if (at === state.to) await writePlan(device, planMove(await readTable(), state.number, state.from).table);
  journal.remove();
}

/** Before any byte is copied, and again when the direction changes: an EBR may have to leave. */
async function clearTheWay(device: BlockDevice, { first }: MovePlan): Promise<void> {
  if (first) await writePlan(device, first);
}

/** Where the partition is now: at the old or the new place. */
function checkSameDisk(device: BlockDevice, table: PartitionTable, state: MoveState, { path }: MoveJournal): number {
  const { offset, size } = findPartition(table, state.number);
  const same =
    table.id === state.tableId &&
    device.size === state.diskSize &&
    size === state.size &&
    (offset === state.from || offset === state.to);
  if (same) return offset;
  throw new DiskError(
    "DENIED",
    `Cannot go on with the move of partition ${state.number} of ${device.label}: its table has changed since (${path})`,
  );
}

interface PieceRange {
  readonly from: number;
  readonly to: number;
  readonly length: number;
}

/** Piece `index` in the order of copying: from the end that the partition moves towards. */
function pieceRange({ from, to, size, piece }: MoveState, index: number): PieceRange {
  const length = Math.min(piece, size - index * piece);
  const at = to < from ? index * piece : size - index * piece - length;
  return { from: from + at, to: to + at, length };
}

function pieceCount({ size, piece }: MoveState): number {
  return Math.ceil(size / piece);
}

async function goForward(
  device: BlockDevice,
  start: MoveState,
  readTable: ReadTable,
  journal: MoveJournal,
  options: MoveOptions,
): Promise<void> {
  await clearTheWay(device, planMove(await readTable(), start.number, start.to));
  let state = start;
  for (const count = pieceCount(state); state.done < count; ) {
    options.signal?.throwIfAborted();
    const range = pieceRange(state, state.done);
    if (state.keepsBytes) state = await throughJournal(device, state, range.from, range.to, range.length, journal);
    else await copyDevice(device, device, { sourceOffset: range.from, targetOffset: range.to, length: range.length });
    await device.flush(); // durable at the new place before the old one may be overwritten
    state = { ...state, done: state.done + 1, kept: null };
    journal.save(state);
    options.onProgress?.(Math.min(state.size, state.done * state.piece), state.size);
  }
  await writePlan(device, planMove(await readTable(), state.number, state.to).table);
  journal.remove();
}

async function goBack(
  device: BlockDevice,
  start: MoveState,
  journal: MoveJournal,
  options: MoveOptions,
): Promise<void> {
  let state = start;
  if (state.kept !== null && state.direction === "forward") {
    // This piece may be half written over its own source, which the journal still has.
    const { from, length } = pieceRange(state, state.done);
    await device.write(from, await keptBytes(state, length, journal));
    await device.flush();
  } else if (state.kept !== null) {
    state = await finishPieceBack(device, state, journal);
  }
  state = { ...state, direction: "back", kept: null };
  journal.save(state);
  const overlaps = Math.abs(state.from - state.to) < state.size;
  // Without overlap the old place was never touched.
  while (overlaps && state.done > 0) {
    options.signal?.throwIfAborted();
    const index = state.done - 1;
    const range = pieceRange(state, index);
    if (state.keepsBytes) state = await throughJournal(device, state, range.to, range.from, range.length, journal);
    else await copyDevice(device, device, { sourceOffset: range.to, targetOffset: range.from, length: range.length });
    await device.flush();
    state = { ...state, done: index, kept: null };
    journal.save(state);
    options.onProgress?.(state.size - Math.min(state.size, state.done * state.piece), state.size);
  }
}

/** Reads a piece (or takes the one that was kept before a cut), keeps it, then writes it over whatever its source was. */
async function throughJournal(
  device: BlockDevice,
  state: MoveState,
  from: number,
  to: number,
  length: number,
  journal: MoveJournal,
): Promise<MoveState> {
  if (state.kept !== null) {
    await device.write(to, await keptBytes(state, length, journal));
    return state;
  }
  const bytes = new Uint8Array(length);
  await device.read(from, bytes);
  await journal.saveBytes(bytes);
  const kept = { ...state, kept: crc32(bytes) };
  journal.save(kept);
  await device.write(to, bytes);
  return kept;
}

async function finishPieceBack(device: BlockDevice, state: MoveState, journal: MoveJournal): Promise<MoveState> {
  const index = state.done - 1;
  const { from, length } = pieceRange(state, index);
  await device.write(from, await keptBytes(state, length, journal));
  await device.flush();
  const back = { ...state, done: index, kept: null };
  journal.save(back);
  return back;
}

async function keptBytes(state: MoveState, length: number, journal: MoveJournal): Promise<Uint8Array> {
  const bytes = await journal.loadBytes(length);
  if (crc32(bytes) === state.kept) return bytes;
  throw new DiskError(
    "CORRUPT",
    `Cannot go on with the move of partition ${state.number}: the bytes kept beside ${journal.path} have changed`,
  );
}
