/** A log that a real kernel wrote (fixtures/filesystems/make-xfs-log.sh): every record's CRC, computed over all of it, is right after a new id. */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { crc32c } from "#src/bytes/crc32c.js";
import { ZERO_GUID } from "#src/bytes/guid.js";
import { newFilesystemId } from "#src/filesystems/identify.js";
import { readXfsSuperblock } from "#src/filesystems/xfs/identify.js";
import { isLogClean, type LogRange, logRange, logRecords } from "#src/filesystems/xfs/log.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { run } from "./support.js";

const SIZE = 300 << 20;
const runs = gunzipSync(readFileSync(new URL("../../fixtures/filesystems/xfs-log.runs.gz", import.meta.url)));
const dir = tempDir();

/** The image as a sparse file. */
async function unpack(name: string): Promise<string> {
  const path = join(dir, name);
  writeFileSync(path, "");
  truncateSync(path, SIZE);
  const device = await openFileDevice(path, { writable: true });
  for (let at = 0; at < runs.length; ) {
    const [offset, length] = [Number(runs.readBigUInt64LE(at)), Number(runs.readBigUInt64LE(at + 8))];
    await device.write(offset, runs.subarray(at + 16, at + 16 + length));
    at += 16 + length;
  }
  await device.close();
  return path;
}

interface Judged {
  readonly uuid: string;
  /** Null: the record has none (those of mkfs, and the empty ones that a mount leaves). */
  readonly crcIsRight: boolean | null;
  readonly headers: number;
}

/** All records, their CRCs computed the long way: header, extended headers, data, around the log's end where they go there. */
async function judge(device: BlockDevice, log: LogRange): Promise<Judged[]> {
  const judged: Judged[] = [];
  const bytes = new Uint8Array(log.length);
  await device.read(log.offset, bytes);
  const around = (at: number, length: number) =>
    Buffer.from(Array.from({ length }, (_, i) => bytes[(at + i) % bytes.length]!));
  for await (const { offset, record } of logRecords(device, log)) {
    const at = offset - log.offset;
    const headers = Math.max(1, Math.ceil(record.bufferSize / 32768));
    const covered = Math.max(1, Math.ceil(record.length / 32768));
    const first = around(at, 328);
    first.fill(0, 32, 36);
    const extended = Array.from({ length: covered - 1 }, (_, i) => around(at + (i + 1) * 512, 260));
    const crc = crc32c(Buffer.concat([first, ...extended, around(at + headers * 512, record.length)]));
    const stored = Buffer.from(record.crc).readUInt32LE(0);
    judged.push({ uuid: record.uuid, headers: covered, crcIsRight: stored === 0 ? null : crc === stored });
  }
  return judged;
}

describe("a log written by a kernel", () => {
  test("has whole records before and after a new id, each with the right one", async () => {
    const path = await unpack("log.img");
    const device = await openFileDevice(path, { writable: true });
    const superblock = (await readXfsSuperblock(device))!;
    const log = logRange(superblock)!;
    expect(await isLogClean(device, superblock, log)).toBe(true);
    const before = await judge(device, log);
    expect(before.length).toBeGreaterThan(8);
    expect(before.some(({ headers }) => headers > 1)).toBe(true);
    expect(before.filter(({ crcIsRight }) => crcIsRight).length).toBeGreaterThan(5);
    expect(before.every(({ crcIsRight, uuid }) => crcIsRight !== false && uuid === superblock.uuid)).toBe(true);

    const change = await newFilesystemId(device, (size) => new Uint8Array(size).fill(0xb7));
    const after = await judge(device, log);
    expect(after.map(({ crcIsRight }) => crcIsRight)).toEqual(before.map(({ crcIsRight }) => crcIsRight));
    expect(new Set(after.map(({ uuid }) => uuid))).toEqual(new Set([change?.new]));
    expect(await isLogClean(device, superblock, log)).toBe(true);
    await device.close();
    if (havePeer("xfs_repair", "xfs_logprint")) {
      run("xfs_repair", "-n", path);
      expect(run("xfs_logprint", "-t", path)).toContain("<CLEAN>");
    }
  });

  test("without its last record it waits to be replayed", async () => {
    const path = await unpack("dirty.img");
    const device = await openFileDevice(path, { writable: true });
    const superblock = (await readXfsSuperblock(device))!;
    const log = logRange(superblock)!;
    let last = { offset: 0, lsn: -1 };
    for await (const { offset, record } of logRecords(device, log)) {
      const lsn = record.lsnCycle * 2 ** 32 + record.lsnBlock;
      if (lsn > last.lsn) last = { offset, lsn };
    }
    await device.zero(last.offset, 512);
    expect(await isLogClean(device, superblock, log)).toBe(false);
    await expect(newFilesystemId(device, (size) => new Uint8Array(size))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("replayed"),
    });
    for await (const { record } of logRecords(device, log)) expect(record.uuid).not.toBe(ZERO_GUID);
    await device.close();
  });
});
