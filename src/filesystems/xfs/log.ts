/**
 * The XFS log, as far as a new UUID concerns it: whether it is clean, and the UUID that every record header carries.
 * The kernel refuses to mount when a record names another UUID than the superblock; a record that names none it accepts.
 *
 * A record's CRC covers its header, so it changes with the UUID. CRCs are linear: the difference of two messages of the same length
 * is the difference of their CRCs, so the change is computed from the two UUIDs and the length alone, and a record is afterwards
 * exactly as valid, or as torn, as it was before.
 *
 * Not supported: logs written by 32-bit kernels, whose CRC covers four bytes less of the header.
 */
import type { BlockDevice } from "../../block/device.js";
import { crc32c } from "../../bytes/crc32c.js";
import { parseUuid } from "../../bytes/guid.js";
import { patchFields } from "../field-types.js";
import { readAt } from "../filesystem.js";
import {
  BASIC_BLOCK,
  LOG_DATA_PER_HEADER,
  LOG_EXTENDED_HEADER_CRC_SIZE,
  LOG_MAX_RECORD,
  LOG_RECORD,
  LOG_RECORD_CRC_SIZE,
  type LogRecord,
  UNMOUNT_CLIENT,
  UNMOUNT_FLAG,
  VERSION_LOG_V2,
  type XfsSuperblock,
} from "./layout.js";

/** The log's place in bytes. */
export interface LogRange {
  readonly offset: number;
  readonly length: number;
}

export interface FoundRecord {
  /** Byte offset on the device. */
  readonly offset: number;
  readonly record: LogRecord;
}

/** Null when the log lies on another device. */
export function logRange(superblock: XfsSuperblock): LogRange | null {
  if (superblock.logStart === 0n) return null;
  const group = Number(superblock.logStart >> BigInt(superblock.groupBlockLog));
  const block = Number(superblock.logStart & ((1n << BigInt(superblock.groupBlockLog)) - 1n));
  return {
    offset: (group * superblock.groupBlocks + block) * superblock.blockSize,
    length: superblock.logBlocks * superblock.blockSize,
  };
}

/** Every record header in the log, old ones included. */
export async function* logRecords(device: BlockDevice, log: LogRange): AsyncGenerator<FoundRecord> {
  for await (const piece of logPieces(device, log)) yield* recordsIn(piece, log);
}

const PIECE = 1 << 20;

interface LogPiece {
  /** Byte offset on the device. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The log in pieces of whole basic blocks. Holes are not read. */
async function* logPieces(device: BlockDevice, log: LogRange): AsyncGenerator<LogPiece> {
  for await (const extent of device.extents(log.offset, log.length)) {
    if (extent.zero) continue;
    const end = extent.offset + extent.length;
    for (let offset = extent.offset; offset < end; offset += PIECE) {
      const bytes = new Uint8Array(Math.min(PIECE, end - offset));
      await device.read(offset, bytes);
      yield { offset, bytes };
    }
  }
}

function* recordsIn({ offset, bytes }: LogPiece, log: LogRange): Generator<FoundRecord> {
  for (let at = 0; at + BASIC_BLOCK <= bytes.length; at += BASIC_BLOCK) {
    const record = decodeHeader(bytes, at, (offset + at - log.offset) / BASIC_BLOCK);
    if (record) yield { offset: offset + at, record };
  }
}

/** Data blocks never begin with the magic: the cycle takes the place of their first word. */
function decodeHeader(bytes: Uint8Array, at: number, block: number): LogRecord | null {
  if (bytes[at] !== 0xfe || bytes[at + 1] !== 0xed || bytes[at + 2] !== 0xba || bytes[at + 3] !== 0xbe) return null;
  const record = LOG_RECORD.decode(bytes, at);
  const possible = record.lsnBlock === block && record.length <= LOG_MAX_RECORD && record.bufferSize <= LOG_MAX_RECORD;
  return possible ? record : null;
}

/** Whether the newest record is the one that a clean unmount writes. An empty log is clean. */
export async function isLogClean(device: BlockDevice, superblock: XfsSuperblock, log: LogRange): Promise<boolean> {
  let newest: FoundRecord | undefined;
  for await (const found of logRecords(device, log))
    if (!newest || isNewer(found.record, newest.record)) newest = found;
  if (!newest) return true;
  if (newest.record.operations !== 1) return false;
  const data = newest.offset - log.offset + headerBlocks(superblock, newest.record) * BASIC_BLOCK;
  const operation = await readAt(device, log.offset + (data % log.length), BASIC_BLOCK);
  return operation?.[8] === UNMOUNT_CLIENT && (operation[9]! & UNMOUNT_FLAG) !== 0; // bytes 8 and 9 of the operation's header
}

function isNewer(a: LogRecord, b: LogRecord): boolean {
  return a.lsnCycle === b.lsnCycle ? a.lsnBlock > b.lsnBlock : a.lsnCycle > b.lsnCycle;
}

function headerBlocks(superblock: XfsSuperblock, record: LogRecord): number {
  const extended = (superblock.version & VERSION_LOG_V2) !== 0 && record.version >= 2;
  return extended ? Math.max(1, Math.ceil(record.bufferSize / LOG_DATA_PER_HEADER)) : 1;
}

/** Puts `uuid` into every record header. A block stands for itself, so a cut between any two of them does no harm. */
export async function stampLog(
  device: BlockDevice,
  superblock: XfsSuperblock,
  log: LogRange,
  uuid: string,
): Promise<void> {
  for await (const piece of logPieces(device, log)) {
    const changed: number[] = []; // where in the piece, ascending
    for (const { offset, record } of recordsIn(piece, log)) {
      if (record.uuid === uuid) continue;
      const at = offset - piece.offset;
      patchFields(LOG_RECORD, piece.bytes, at, { uuid, crc: changedCrc(superblock, record, uuid) });
      changed.push(at);
    }
    for (const { start, end } of runsOf(changed))
      await device.write(piece.offset + start, piece.bytes.subarray(start, end));
  }
}

/** Neighbouring blocks together: a kernel leaves thousands of empty records in a row. */
function* runsOf(blocks: readonly number[]): Generator<{ start: number; end: number }> {
  for (let i = 0; i < blocks.length; ) {
    const start = blocks[i]!;
    let end = start;
    while (blocks[i] === end) {
      end += BASIC_BLOCK;
      i++;
    }
    yield { start, end };
  }
}

/** Of the extended headers the CRC covers those that this record needed, fewer than its buffer would have room for. */
function changedCrc(superblock: XfsSuperblock, record: LogRecord, uuid: string): Uint8Array {
  const stored = new DataView(record.crc.buffer, record.crc.byteOffset).getUint32(0, true);
  if (stored === 0) return record.crc; // zero says that nobody computed it
  const covered = Math.min(
    headerBlocks(superblock, record),
    Math.max(1, Math.ceil(record.length / LOG_DATA_PER_HEADER)),
  );
  const extended = (covered - 1) * LOG_EXTENDED_HEADER_CRC_SIZE;
  const uuidEnd = LOG_RECORD.fields.uuid.offset + 16;
  const after = LOG_RECORD_CRC_SIZE - uuidEnd + extended + record.length;
  const difference = crc32c(followedByZeros(record.uuid, after)) ^ crc32c(followedByZeros(uuid, after));
  const crc = new Uint8Array(4);
  new DataView(crc.buffer).setUint32(0, (stored ^ difference) >>> 0, true);
  return crc;
}

function followedByZeros(uuid: string, zeros: number): Uint8Array {
  const bytes = new Uint8Array(16 + zeros);
  bytes.set(parseUuid(uuid));
  return bytes;
}
