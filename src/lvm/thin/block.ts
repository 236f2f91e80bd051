/** One block of the metadata in memory: its checksum, and which kind it must be. */
import { crc32c } from "../../bytes/crc32c.js";
import { DiskError } from "../../errors.js";
import { BLOCK } from "./layout.js";

/** What a checksum is mixed with: a block of one kind is none of another. */
const SALTS = { superblock: 160774, node: 121107, bitmap: 240779, index: 160478 } as const;
export type BlockKind = keyof typeof SALTS;

export interface Block {
  readonly number: number;
  readonly kind: BlockKind;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Differs from what is stored. */
  dirty: boolean;
}

export function newBlock(number: number, kind: BlockKind, bytes: Uint8Array = new Uint8Array(BLOCK)): Block {
  return { number, kind, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, BLOCK), dirty: false };
}

export function checksum(kind: BlockKind, bytes: Uint8Array): number {
  return (~crc32c(bytes.subarray(4)) ^ SALTS[kind]) >>> 0;
}

/** Sets number and checksum: the block is ready to be stored. */
export function seal({ number, kind, bytes, view }: Block): void {
  setCount64(view, 8, number);
  view.setUint32(0, checksum(kind, bytes), true);
}

/** What is wrong with a block that was read; null when it is what it should be. */
export function blockProblem({ number, kind, bytes, view }: Block): string | null {
  if (view.getUint32(0, true) !== checksum(kind, bytes)) return `its checksum is not that of a ${kind}`;
  const own = count64(view, 8);
  return own === number ? null : `it says that it is block ${own}`;
}

export function checkBlock(block: Block, label: string): void {
  const problem = blockProblem(block);
  if (problem) throw damaged(label, block.number, problem);
}

export function damaged(label: string, number: number, problem: string): DiskError {
  return new DiskError("CORRUPT", `Cannot read block ${number} of ${label}: ${problem}`, {
    details: { block: number },
  });
}

/** 64 bits as a number; what does not fit becomes a number above 2^53, which no bound allows. */
export function count64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}

export function setCount64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 0x1_0000_0000, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}
