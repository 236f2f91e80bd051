/** What a guest reads and writes through its ring is what the device behind it holds, and nothing stays mapped. */
import { expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { describeBlockDevice } from "../contract/block-device.js";
import { ringPair } from "./ring-pair.js";

describeBlockDevice(
  "blkfront on blkback",
  async ({ size, blockSize, writable }) => {
    const pair = ringPair(memoryDevice(size, { writable }), blockSize);
    return { device: pair.device, release: () => pair.close() };
  },
  { blockSizes: [512, 4096], unit: 4096, size: (blockSize) => 45056 * 3 + blockSize * 5 - ((45056 * 3) % blockSize) },
);

test("many requests at once, larger than the ring, each in its place", async () => {
  const memory = memoryDevice(16 << 20);
  const pair = ringPair(memory);
  const writes = Array.from({ length: 256 }, (_, i) => pair.device.write(i * 65536, new Uint8Array(65536).fill(i)));
  await Promise.all(writes);
  await pair.device.flush();
  const seen = new Uint8Array(1);
  for (let i = 0; i < 256; i++) {
    await memory.read(i * 65536 + 65535, seen);
    expect(seen[0]).toBe(i);
  }
  expect(pair.back.statistics.wr_sect).toBe((16 << 20) / 512);
  expect(pair.dom0.foreign.mapped).toBe(1); // the ring itself
  await pair.close();
  expect(pair.dom0.foreign.mapped).toBe(0);
});

test("a failing device fails the request, and the next one works", async () => {
  let failing = true;
  const memory = memoryDevice(65536);
  const pair = ringPair(
    defineDevice({
      label: "flaky",
      size: memory.size,
      read: (offset, into) => (failing ? Promise.reject(new Error("medium error")) : memory.read(offset, into)),
      write: (offset, data) => memory.write(offset, data),
    }),
  );
  await expect(pair.device.read(0, new Uint8Array(4096))).rejects.toMatchObject({ code: "IO" });
  failing = false;
  await pair.device.read(0, new Uint8Array(4096));
  expect(pair.back.statistics.errors).toBe(1);
  await pair.close();
});

test("slow and quick requests overtake each other", async () => {
  const order: string[] = [];
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const memory = memoryDevice(1 << 20);
  const pair = ringPair(
    defineDevice({
      label: "uneven",
      size: memory.size,
      read: async (offset, into) => {
        if (offset === 0) await gate;
        await memory.read(offset, into);
      },
    }),
  );
  const slow = pair.device.read(0, new Uint8Array(512)).then(() => order.push("slow"));
  await pair.device.read(4096, new Uint8Array(512)).then(() => order.push("quick"));
  release();
  await slow;
  expect(order).toEqual(["quick", "slow"]);
  await pair.close();
});

test("closing while requests are under way answers all of them", async () => {
  const memory = memoryDevice(1 << 20);
  const pair = ringPair(memory);
  const reads = Array.from({ length: 64 }, (_, i) => pair.device.read(i * 4096, new Uint8Array(4096)));
  await pair.close();
  await Promise.all(reads);
  await expect(pair.device.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "IO" });
});

test("a discard reaches the device; a device that cannot still takes the hint", async () => {
  const discarded: number[] = [];
  const pair = ringPair(
    defineDevice({
      label: "discarding",
      size: 1 << 20,
      read: async (_offset, into) => void into.fill(0),
      write: async () => {},
      discard: async (offset, length) => void discarded.push(offset, length),
    }),
  );
  await pair.device.discard(8192, 65536);
  expect(discarded).toEqual([8192, 65536]);
  await pair.close();
});
