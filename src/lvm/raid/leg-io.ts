/** What a layout of legs sees of them. Failures of single legs are dealt with behind it. */

export interface LegIo {
  readonly count: number;
  /** Has every byte. */
  isCurrent(leg: number): boolean;
  /** Takes writes: current, or catching up. */
  takesWrites(leg: number): boolean;
  /** Read only when there is no other. */
  isSlow(leg: number): boolean;
  /** Whether legs may differ in bytes of the range that regions are counted over. */
  isStale(offset: number, length: number): boolean;
  /** False when the leg cannot read it; the caller gets the bytes elsewhere, and gives them back with `heal`. */
  read(leg: number, offset: number, into: Uint8Array): Promise<boolean>;
  /** A leg that refuses is failed from then on. Throws when the volume cannot do without it. */
  write(leg: number, offset: number, data: Uint8Array): Promise<void>;
  zero(leg: number, offset: number, length: number): Promise<void>;
  /** As write; nothing where the volume is open for reading only. */
  heal(leg: number, offset: number, data: Uint8Array): Promise<void>;
  /** Whether a leg stores nothing in a range: bytes that all read as zeros, from `offset` on, at most `length`. */
  zeroRun(leg: number, offset: number, length: number): Promise<{ readonly zero: boolean; readonly length: number }>;
}

/** How bytes of a volume lie on its legs. */
export interface LegLayout {
  /** Bytes that regions are counted over: of the volume for copies, of one leg for parity. */
  readonly syncSize: number;
  /** The part of these that a range of the volume belongs to, in whole units of locking. */
  syncRange(offset: number, length: number): { readonly offset: number; readonly length: number };
  /** The bytes of every leg that hold these, and maybe some more. */
  legRange(offset: number, length: number): { readonly offset: number; readonly length: number };
  /** Whether all bytes are there when only legs with `true` are. */
  isComplete(present: readonly boolean[]): boolean;
  /** Without the lock: false when the bytes have to be put together from several legs, or a leg could not read its own. */
  read(offset: number, into: Uint8Array, locked: boolean): Promise<boolean>;
  /** All that follow are called with the range locked. */
  write(offset: number, data: Uint8Array): Promise<void>;
  zero(offset: number, length: number): Promise<void>;
  /** Makes legs alike in a range of the sync bytes; gives the bytes in which they were not. `repair` false: only counts them. */
  recover(offset: number, length: number, repair: boolean): Promise<number>;
  /** From `offset` on: a run of the volume that reads as zeros, or may hold data. */
  run(offset: number, length: number): Promise<{ readonly zero: boolean; readonly length: number }>;
}
