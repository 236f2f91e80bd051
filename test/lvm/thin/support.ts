/** Thin pools in memory, and storage that remembers what was written in which order. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { ThinMetadata } from "#src/lvm/thin/metadata.js";
import { ThinPool } from "#src/lvm/thin/pool.js";
import { thinDevice } from "#src/lvm/thin/thin-device.js";
import { tempDir } from "../../support/temp-dir.js";

export const CHUNK = 64 << 10;
export const METADATA_SIZE = 2 << 20;

/** Numbers below a bound, repeatable. */
export function seededNumbers(seed: number): (bound: number) => number {
  let state = seed >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

export type Logged = { device: string; offset: number; data: Uint8Array } | { device: string; flush: true };

/** Bytes as a device; each write and flush goes into `log`. */
export function loggedDevice(label: string, bytes: Uint8Array, log: Logged[]): BlockDevice {
  const memory = memoryDevice(bytes, { label });
  return defineDevice({
    label,
    size: bytes.length,
    read: (offset, into) => memory.read(offset, into),
    async write(offset, data) {
      log.push({ device: label, offset, data: data.slice() });
      await memory.write(offset, data);
    },
    async flush() {
      log.push({ device: label, flush: true });
    },
  });
}

export interface TestPool {
  readonly metadata: ThinMetadata;
  readonly pool: ThinPool;
}

export async function openTestPool(
  metadataDevice: BlockDevice,
  data: BlockDevice,
  { writable = true, cachedBlocks }: { writable?: boolean; cachedBlocks?: number } = {},
): Promise<TestPool> {
  const metadata = await ThinMetadata.open(metadataDevice, cachedBlocks);
  const pool = new ThinPool(metadata, data, { label: "pool", chunkSize: CHUNK, discards: "passdown", writable });
  return { metadata, pool };
}

export async function formatTestPool(metadataDevice: BlockDevice, data: BlockDevice): Promise<TestPool> {
  await ThinMetadata.format(metadataDevice, { dataBlockSize: CHUNK / 512, dataBlocks: Math.floor(data.size / CHUNK) });
  return openTestPool(metadataDevice, data);
}

export async function openTestThin(
  pool: ThinPool,
  id: number,
  size: number,
  externalOrigin: BlockDevice | null = null,
): Promise<BlockDevice> {
  return thinDevice(pool, await pool.device(id), { label: `thin ${id}`, size, writable: true, externalOrigin });
}

/** thin_check of these bytes; throws with what it says. */
export function thinCheck(bytes: Uint8Array): void {
  onFile(bytes, (path) => execFileSync("thin_check", [path], { stdio: ["ignore", "pipe", "pipe"] }));
}

export function thinDump(bytes: Uint8Array): string {
  return onFile(bytes, (path) => execFileSync("thin_dump", [path], { encoding: "utf8" }));
}

/** The tools read past the page cache, which tmpfs does not have: not in its folder. */
function onFile<T>(bytes: Uint8Array, work: (path: string) => T): T {
  const path = join(tempDir(), "metadata.bin");
  writeFileSync(path, bytes);
  return work(path);
}
