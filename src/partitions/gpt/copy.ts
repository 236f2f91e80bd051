/** One copy of a GPT, header and entry array, with all the checks that UEFI asks for (2.10, 5.3.2) and a few that prudence does. */
import { crc32 } from "../../bytes/checksum.js";
import { DiskError } from "../../errors.js";
import type { SectorSize } from "../table.js";
import type { TableView } from "../view.js";
import { ENTRY_SIZE, GPT_HEADER, GPT_SIGNATURE, type GptHeader, MAX_ARRAY_BYTES } from "./layout.js";

export interface Copy {
  readonly header: GptHeader;
  readonly headerBytes: Uint8Array;
  readonly entries: Uint8Array;
}

export type CopyResult =
  | { readonly copy: Copy; readonly reason?: undefined }
  | { readonly copy?: undefined; readonly reason: string };

const HEADER_CRC_OFFSET = 16;

/** Whether a GPT header's signature is at this byte. */
export function hasSignature(bytes: Uint8Array, offset: number): boolean {
  return Buffer.from(bytes.subarray(offset, offset + 8)).toString("latin1") === GPT_SIGNATURE;
}

/** One copy with all its checks, or why it is no good. `twin` is the other copy, when it is known to be good. */
export async function readCopy(view: TableView, sectorSize: SectorSize, lba: number, twin?: Copy): Promise<CopyResult> {
  const found = await readHeader(view, sectorSize, lba);
  if (!found.header) return found;
  const { header, headerBytes } = found;
  const entries = await readEntries(view, sectorSize, header, header.entriesLba, twin);
  if (entries) return { copy: { header, headerBytes, entries } };
  return {
    reason: `the entry array at block ${header.entriesLba} does not have the CRC ${hex(header.entriesCrc32)} of its header`,
  };
}

type HeaderResult =
  | { readonly header: GptHeader; readonly headerBytes: Uint8Array }
  | { readonly header?: undefined; readonly reason: string };

/** A header that is good by itself, whatever its array. */
export async function readHeader(view: TableView, sectorSize: SectorSize, lba: number): Promise<HeaderResult> {
  const blocks = Math.floor(view.size / sectorSize);
  if (lba < 1 || lba >= blocks) return { reason: `block ${lba} is outside the disk's ${blocks} blocks` };
  const block = await view.read(lba * sectorSize, sectorSize);
  if (!hasSignature(block, 0)) return { reason: `block ${lba} holds no GPT header` };
  let header: GptHeader;
  try {
    header = GPT_HEADER.decode(block);
  } catch (error) {
    return { reason: (error as Error).message };
  }
  const reason = headerFault(header, block, lba, blocks, sectorSize);
  return reason ? { reason } : { header, headerBytes: block.slice(0, header.headerSize) };
}

/** The array at `lba` when it has the CRC that `header` wants, else null. Throws `UNSUPPORTED` for one that is too long. */
export async function readEntries(
  view: TableView,
  sectorSize: SectorSize,
  header: GptHeader,
  lba: number,
  twin?: Copy,
): Promise<Uint8Array | null> {
  const length = header.entryCount * header.entrySize;
  if (length > MAX_ARRAY_BYTES) {
    const text = `Cannot read the GPT of ${view.label}: its entry array has ${length} bytes, allowed up to ${MAX_ARRAY_BYTES}`;
    throw new DiskError("UNSUPPORTED", text, { details: { length } });
  }
  if (lba < 2 || lba * sectorSize > view.size - length) return null;
  const entries = await view.read(lba * sectorSize, length);
  // The same bytes have the same CRC: comparing them is much faster than computing it again.
  const isTwin = twin !== undefined && Buffer.compare(entries, twin.entries) === 0;
  const found = isTwin ? twin.header.entriesCrc32 : crc32(entries);
  return found === header.entriesCrc32 ? entries.slice() : null;
}

/** What is wrong with a header by itself: UEFI 2.10, 5.3.2, "validity of a GPT". */
function headerFault(
  header: GptHeader,
  block: Uint8Array,
  lba: number,
  blocks: number,
  sectorSize: number,
): string | undefined {
  const { headerSize, entrySize, entryCount, entriesLba, firstUsableLba, lastUsableLba } = header;
  if (headerSize < GPT_HEADER.size || headerSize > sectorSize)
    return `headerSize is ${headerSize}, allowed ${GPT_HEADER.size}..${sectorSize} (byte 12)`;
  const bytes = block.slice(0, headerSize);
  bytes.fill(0, HEADER_CRC_OFFSET, HEADER_CRC_OFFSET + 4);
  const found = crc32(bytes);
  if (found !== header.headerCrc32)
    return `the header at block ${lba} has CRC ${hex(found)}, it says ${hex(header.headerCrc32)} (byte ${HEADER_CRC_OFFSET})`;
  if (header.myLba !== lba) return `myLba is ${header.myLba}, the header lies at ${lba} (byte 24)`;
  if (entrySize < ENTRY_SIZE || entrySize > 4096 || (entrySize & (entrySize - 1)) !== 0)
    return `entrySize is ${entrySize}, allowed 128, 256, 512 … 4096 (byte 84)`;
  if (entryCount === 0) return "entryCount is 0, at least 1 is needed (byte 80)";
  const entryBlocks = Math.ceil((entryCount * entrySize) / sectorSize);
  if (entriesLba < 2 || entriesLba > blocks - entryBlocks)
    return `entriesLba is ${entriesLba}, allowed 2..${blocks - entryBlocks} (byte 72)`;
  if (firstUsableLba < 2 || firstUsableLba > lastUsableLba + 1)
    return `usable blocks are ${firstUsableLba}..${lastUsableLba} (byte 40)`;
  return undefined;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
