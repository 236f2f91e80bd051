/**
 * How far a move has come, kept in files beside the disk: a small JSON document that is replaced as a whole, and the bytes of
 * the piece in hand. Whoever finds it after a cut can go on, or back.
 */
import { DiskError } from "../../errors.js";
import { openFile } from "../../os/file.js";
import { readJsonFile, removeJsonFile, writeJsonFile } from "../../os/json-file.js";
import { pathExists } from "../../os/paths.js";

export interface MoveState {
  readonly version: 1;
  /** Identity of the table, so that the journal is not used on another disk. */
  readonly tableId: string;
  readonly diskSize: number;
  readonly number: number;
  /** Bytes. */
  readonly from: number;
  readonly to: number;
  readonly size: number;
  /** Bytes per piece; the last piece may be shorter. */
  readonly piece: number;
  /** Pieces reach into each other's source: each one's bytes are kept in the journal before it is written. */
  readonly keepsBytes: boolean;
  readonly direction: "forward" | "back";
  /** Pieces whose bytes are at the new place and not needed at the old one. */
  readonly done: number;
  /** CRC-32 of the kept bytes of piece `done` (forward) or `done - 1` (back); null when none are kept. */
  readonly kept: number | null;
}

export interface MoveJournal {
  readonly path: string;
  load(): MoveState | null;
  /** Durable when it returns. */
  save(state: MoveState): void;
  /** Replaces the kept bytes; durable when it resolves. The state says whether they count. */
  saveBytes(bytes: Uint8Array): Promise<void>;
  loadBytes(length: number): Promise<Uint8Array>;
  remove(): void;
}

export function journalPath(disk: string): string {
  return `${disk}.xvd-move`;
}

export function fileJournal(path: string): MoveJournal {
  const bytesPath = `${path}.bytes`;
  return {
    path,
    load: () => checked(path, readJsonFile(path)),
    save: (state) => writeJsonFile(path, state),
    async saveBytes(bytes) {
      const file = await openFile(bytesPath, { writable: true, create: !pathExists(bytesPath) });
      try {
        await file.write(0, bytes);
        await file.sync();
      } finally {
        await file.close();
      }
    },
    async loadBytes(length) {
      const file = await openFile(bytesPath);
      try {
        const bytes = new Uint8Array(length);
        await file.read(0, bytes);
        return bytes;
      } finally {
        await file.close();
      }
    },
    remove() {
      removeJsonFile(path);
      removeJsonFile(bytesPath);
    },
  };
}

/** The document as a state. Throws `CORRUPT` for one that no move has written. */
function checked(path: string, document: unknown): MoveState | null {
  if (document === null) {
    if (pathExists(path)) throw corrupt(path, "it is no JSON");
    return null;
  }
  const state = document as MoveState;
  if (typeof document !== "object" || state.version !== 1) throw corrupt(path, "its version is not 1");
  const counts = [state.diskSize, state.number, state.from, state.to, state.size, state.piece, state.done];
  if (!counts.every((value) => Number.isSafeInteger(value) && value >= 0) || state.piece === 0)
    throw corrupt(path, "a number is missing");
  if (state.direction !== "forward" && state.direction !== "back") throw corrupt(path, "it has no direction");
  if (state.done > Math.ceil(state.size / state.piece)) throw corrupt(path, "more is done than there was to do");
  return state;
}

function corrupt(path: string, why: string): DiskError {
  return new DiskError("CORRUPT", `Cannot read the journal ${JSON.stringify(path)}: ${why}`);
}
