/**
 * Compression of single units (clusters, grains) as image formats use it: deflate (RFC 1951), zlib (RFC 1950), zstd
 * (RFC 8878). Unpacking never makes more bytes than were asked for, whatever the packed bytes say.
 */
import zlib from "node:zlib";
import { DiskError } from "../errors.js";
import { zstdFrame } from "./zstd-frame.js";

export type PackingMethod = "deflate" | "zlib" | "zstd";

export interface Packing {
  readonly method: PackingMethod;
  readonly level: number;
  /** Of deflate and zlib: base-2 logarithm of the window, 9..15. */
  readonly windowBits?: number;
}

export interface Codec {
  pack(data: Uint8Array, packing: Packing): Uint8Array;
  /** Exactly `size` bytes; what follows the packed bytes is ignored. Throws `CORRUPT`. */
  unpack(packed: Uint8Array, size: number): Promise<Uint8Array>;
}

/** Loads what the method needs. */
export async function loadCodec(method: PackingMethod): Promise<Codec> {
  switch (method) {
    case "deflate":
      return { pack: (data, how) => zlib.deflateRawSync(data, tuning(how)), unpack: unpacking(inflateRaw) };
    case "zlib":
      return { pack: (data, how) => zlib.deflateSync(data, tuning(how)), unpack: unpacking(inflate) };
    case "zstd":
      return "zstdCompressSync" in zlib ? nodeZstd(zlib as unknown as NodeZstd) : wasmZstd();
  }
}

const tuning = ({ level, windowBits = 15 }: Packing) => ({ level, windowBits });

type Inflate = (packed: Uint8Array, size: number) => Promise<Uint8Array>;

const inflateRaw: Inflate = (packed, size) => pooled(zlib.inflateRawSync, zlib.inflateRaw, packed, size);
const inflate: Inflate = (packed, size) => pooled(zlib.inflateSync, zlib.inflate, packed, size);

/** Below this the way to the thread pool and back takes longer than the work. */
const WORTH_A_THREAD = 16 * 1024;

function pooled(
  here: typeof zlib.inflateSync,
  there: typeof zlib.inflate,
  packed: Uint8Array,
  size: number,
): Promise<Uint8Array> {
  const limit = { maxOutputLength: size };
  if (size < WORTH_A_THREAD) return Promise.resolve(here(packed, limit));
  return new Promise((resolve, reject) =>
    there(packed, limit, (error, unpacked) => (error ? reject(error) : resolve(unpacked))),
  );
}

/** The ways of the libraries to say that bytes are bad become one. */
function unpacking(inflate: Inflate): Inflate {
  return async (packed, size) => {
    const unpacked = await attempt(() => inflate(packed, size));
    if (unpacked.length !== size) throw corrupt(`they hold ${unpacked.length} bytes, expected ${size}`);
    return unpacked;
  };
}

async function attempt<T>(work: () => T): Promise<Awaited<T>> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof DiskError ? error : corrupt((error as Error).message, error);
  }
}

/** Node has zstd since 22.15. */
interface NodeZstd {
  zstdCompressSync(data: Uint8Array, options: { params: Record<number, number> }): Uint8Array;
  zstdDecompressSync(packed: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
  constants: { ZSTD_c_compressionLevel: number };
}

function nodeZstd({ zstdCompressSync, zstdDecompressSync, constants }: NodeZstd): Codec {
  return {
    pack: (data, { level }) => zstdCompressSync(data, { params: { [constants.ZSTD_c_compressionLevel]: level } }),
    unpack: unpacking(async (packed, size) => zstdDecompressSync(onlyFrame(packed, size), { maxOutputLength: size })),
  };
}

let wasmCodec: Promise<Codec> | undefined;

/** Once: a second `init` takes the memory away from what the first one made. */
function wasmZstd(): Promise<Codec> {
  wasmCodec ??= initWasmZstd();
  return wasmCodec;
}

async function initWasmZstd(): Promise<Codec> {
  const { init, compress, decompress } = await import("@bokuweb/zstd-wasm");
  await init();
  return {
    pack: (data, { level }) => compress(data, level),
    unpack: unpacking(async (packed, size) => decompress(onlyFrame(packed, size), { defaultHeapSize: size })),
  };
}

/** The frame alone, without what follows it, and none that says it is larger than the unit: that much would be allocated. */
function onlyFrame(packed: Uint8Array, size: number): Uint8Array {
  const frame = zstdFrame(packed);
  if (!frame) throw corrupt("they are no zstd frame");
  if (frame.contentSize !== null && frame.contentSize !== size)
    throw corrupt(`they hold ${frame.contentSize} bytes, expected ${size}`);
  return packed.subarray(0, frame.length);
}

function corrupt(why: string, cause?: unknown): DiskError {
  return new DiskError("CORRUPT", `Cannot unpack compressed bytes: ${why}`, { cause });
}
