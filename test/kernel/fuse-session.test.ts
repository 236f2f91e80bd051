/** The FUSE session, driven message by message as the kernel does, and as nobody should. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { withLentReads } from "#src/block/lent-read.js";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { MAX_DATA } from "#src/kernel/fuse-buffers.js";
import {
  ATTR,
  ATTR_OUT,
  ENTRY_OUT,
  FUSE_OP,
  IN_HEADER,
  INIT_OUT,
  LSEEK_OUT,
  OPEN_OUT,
  STATFS_OUT,
} from "#src/kernel/fuse-layout.js";
import { FuseWire, initBody, interruptBody, ioBody, nameBody, openBody } from "./fuse-wire.js";

const PUNCH = 0x03; // PUNCH_HOLE | KEEP_SIZE
const ZERO_RANGE = 0x10;
const [EPERM, ENOENT, EINTR, EIO, ENXIO, ENODEV, EINVAL, ENOSPC, EROFS, ENOSYS, EPROTO, EOPNOTSUPP] = [
  -1, -2, -4, -5, -6, -19, -22, -28, -30, -38, -71, -95,
];

const pattern = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 0xff);

/** A device whose calls are settled by the test, in any order. */
function heldDevice(size: number) {
  const held: { resolve(): void; reject(error: Error): void; into?: Uint8Array; data?: Uint8Array }[] = [];
  const hold = (more: { into?: Uint8Array; data?: Uint8Array }) =>
    new Promise<void>((resolve, reject) => held.push({ resolve, reject, ...more }));
  const device = defineDevice({
    label: "held",
    size,
    read: (_offset, into) => hold({ into }),
    write: (_offset, data) => hold({ data }),
    flush: () => hold({}),
  });
  return { device, held };
}

describe("the greeting", () => {
  test("INIT agrees on what the kernel can, with large requests", async () => {
    const reply = await new FuseWire(memoryDevice(4096)).ask(FUSE_OP.INIT, initBody(7, 45));
    expect(reply.error).toBe(0);
    expect(INIT_OUT.decode(reply.body)).toMatchObject({
      ...{ major: 7, minor: 31, maxWrite: MAX_DATA, maxPages: MAX_DATA / 4096 },
      flags: (1 << 0) | (1 << 5) | (1 << 15) | (1 << 22),
    });
  });

  test("what the kernel cannot is not used", async () => {
    const reply = await new FuseWire(memoryDevice(4096)).ask(FUSE_OP.INIT, initBody(7, 26, 1));
    expect(INIT_OUT.decode(reply.body)).toMatchObject({ minor: 26, flags: 1 });
  });

  test.each([
    ["a newer major is answered with ours", 8, 0, 0],
    ["an older major is refused", 6, 99, EPROTO],
    ["a minor with shorter structures is refused", 7, 22, EPROTO],
  ])("%s", async (_, major, minor, error) => {
    const reply = await new FuseWire(memoryDevice(4096)).ask(FUSE_OP.INIT, initBody(major, minor));
    expect(reply.error).toBe(error);
    if (error === 0) expect(INIT_OUT.decode(reply.body).major).toBe(7);
  });
});

describe("the one file", () => {
  const wire = () => new FuseWire(memoryDevice(1 << 20), { name: "disk.img" });

  test("is found by its name, and no other is", async () => {
    const { body } = await wire().ask(FUSE_OP.LOOKUP, nameBody("disk.img"), 1);
    expect(ENTRY_OUT.decode(body)).toMatchObject({ node: 2n, attrValid: 0n });
    expect(ATTR.decode(body, ENTRY_OUT.size)).toMatchObject({ size: 1 << 20, blocks: 2048, mode: 0o100600 });
    for (const [name, node] of [
      ["disk.im", 1],
      ["disk.img2", 1],
      ["", 1],
      ["disk.img", 2],
    ] as const)
      expect((await wire().ask(FUSE_OP.LOOKUP, nameBody(name), node)).error).toBe(ENOENT);
    expect((await wire().ask(FUSE_OP.LOOKUP, Buffer.from("disk.img"), 1)).error).toBe(ENOENT); // no final zero
  });

  test("has attributes, and the folder has", async () => {
    const file = await wire().ask(FUSE_OP.GETATTR, new Uint8Array(16));
    expect(ATTR.decode(file.body, ATTR_OUT.size)).toMatchObject({ ino: 2n, size: 1 << 20 });
    const root = await wire().ask(FUSE_OP.GETATTR, new Uint8Array(16), 1);
    expect(ATTR.decode(root.body, ATTR_OUT.size)).toMatchObject({ ino: 1n, mode: 0o040700 });
    expect((await wire().ask(FUSE_OP.GETATTR, new Uint8Array(16), 3)).error).toBe(ENOENT);
  });

  test("opens for direct, parallel I/O", async () => {
    const { body } = await wire().ask(FUSE_OP.OPEN, openBody(2));
    expect(OPEN_OUT.decode(body).openFlags).toBe((1 << 0) | (1 << 5) | (1 << 6));
    expect((await wire().ask(FUSE_OP.OPEN, openBody(2), 1)).error).toBe(ENOENT);
  });

  test("keeps its size, whoever asks", async () => {
    expect((await wire().ask(FUSE_OP.SETATTR, new Uint8Array(88))).error).toBe(EPERM);
  });

  test("tells its granularity", async () => {
    const { body } = await new FuseWire(memoryDevice(1 << 20, { blockSize: 8192 })).ask(FUSE_OP.STATFS);
    expect(STATFS_OUT.decode(body)).toMatchObject({ blockSize: 8192, blocks: 128 });
  });

  test("has another size after a resize", async () => {
    const one = new FuseWire(memoryDevice(8192), { size: 4096 });
    expect((await one.read(4096, 4096)).body.length).toBe(0);
    one.session.size = 8192;
    expect((await one.read(4096, 4096)).body.length).toBe(4096);
    const { body } = await one.ask(FUSE_OP.GETATTR, new Uint8Array(16));
    expect(ATTR.decode(body, ATTR_OUT.size).size).toBe(8192);
  });
});

describe("reads and writes", () => {
  test.each([512, 4096, 4097, 32 << 10, (32 << 10) + 512, MAX_DATA])(
    "%i bytes come back as they went",
    async (size) => {
      const wire = new FuseWire(memoryDevice(2 * MAX_DATA));
      const data = pattern(size);
      const written = await wire.write(512, data);
      expect([written.error, written.body.length, Buffer.from(written.body).readUInt32LE(0)]).toEqual([0, 8, size]);
      const back = await wire.read(512, size);
      expect(Buffer.compare(back.body, data)).toBe(0);
    },
  );

  test("reads end at the file's end", async () => {
    const wire = new FuseWire(memoryDevice(pattern(6000)));
    expect((await wire.read(4096, 4096)).body).toEqual(pattern(6000).subarray(4096));
    expect((await wire.read(6000, 4096)).body.length).toBe(0);
    expect((await wire.read(1 << 30, 4096)).body.length).toBe(0);
  });

  test("what the device lends is passed on; short reads, and what it does not lend, are read", async () => {
    const data = pattern(MAX_DATA);
    const asked: number[] = [];
    let failure: Error | undefined;
    const device = withLentReads(memoryDevice(data), (offset, length, use) => {
      asked.push(length);
      if (failure) return Promise.reject(failure);
      if (length > 64 << 10) return null;
      return Promise.resolve().then(() => use(data.subarray(offset, offset + length)));
    });
    const wire = new FuseWire(device);
    for (const length of [4096, 32 << 10, 64 << 10, 128 << 10])
      expect(Buffer.compare((await wire.read(512, length)).body, data.subarray(512, 512 + length))).toBe(0);
    expect(asked).toEqual([32 << 10, 64 << 10, 128 << 10]);
    failure = new DiskError("IO", "Cannot read x: broken");
    expect(await wire.read(0, 64 << 10)).toMatchObject({ error: EIO, body: new Uint8Array(0) });
    expect(wire.session.inFlight).toBe(0);
  });

  test("a write behind the end has no space, and none behind 2^53 is tried", async () => {
    const wire = new FuseWire(memoryDevice(8192));
    expect((await wire.write(8192 - 512, pattern(1024))).error).toBe(ENOSPC);
    expect((await wire.write(2n ** 63n, pattern(512))).error).toBe(EINVAL);
    expect((await wire.read(2n ** 64n - 1n, 512)).error).toBe(EINVAL);
  });

  test("several go on at once, and are answered as they end", async () => {
    const { device, held } = heldDevice(1 << 20);
    const wire = new FuseWire(device);
    const names = [0, 1, 2].map((i) => wire.request(FUSE_OP.READ, ioBody(i * 4096, 4096)));
    expect([wire.session.take(), wire.session.inFlight]).toEqual([3, 3]);
    held[2]!.into!.fill(7);
    held[2]!.resolve();
    expect((await wire.reply(names[2]!)).body).toEqual(new Uint8Array(4096).fill(7));
    expect([wire.replies.length, wire.session.inFlight]).toEqual([1, 2]);
    held[0]!.resolve();
    held[1]!.resolve();
    await wire.reply(names[0]!);
    await wire.reply(names[1]!);
    expect(wire.session.inFlight).toBe(0);
  });

  test.each([100, 64 << 10])("data of %i bytes is safe from the next request until the device has it", async (size) => {
    const { device, held } = heldDevice(1 << 20);
    const wire = new FuseWire(device);
    const [a, b] = [pattern(size, 1), pattern(size, 2)];
    const names = [a, b].map((data) => wire.request(FUSE_OP.WRITE, Buffer.concat([ioBody(0, size), data])));
    wire.session.take();
    expect(held.map(({ data }) => Buffer.from(data!))).toEqual([Buffer.from(a), Buffer.from(b)]);
    for (const { resolve } of held) resolve();
    for (const name of names) expect((await wire.reply(name)).error).toBe(0);
  });

  test("a failure is answered, and told apart", async () => {
    const { device, held } = heldDevice(1 << 20);
    for (const [error, errno] of [
      [new DiskError("IO", "Cannot read x: broken"), EIO],
      [new DiskError("NO_SPACE", "Cannot write x: full"), ENOSPC],
      [new DiskError("READ_ONLY", "Cannot write x: it is read-only"), EROFS],
      [new Error("anything"), EIO],
    ] as const) {
      const wire = new FuseWire(device);
      const name = wire.request(FUSE_OP.READ, ioBody(0, 512));
      wire.session.take();
      held.shift()!.reject(error);
      expect(await wire.reply(name)).toMatchObject({ error: errno, body: new Uint8Array(0) });
    }
  });

  test("no more is taken than memory allows, until something ends", async () => {
    const { device, held } = heldDevice(64 * MAX_DATA);
    const wire = new FuseWire(device);
    for (let i = 0; i < 40; i++) wire.request(FUSE_OP.READ, ioBody(i * MAX_DATA, MAX_DATA));
    expect(wire.session.take()).toBe(16);
    expect(wire.session.finalCheck()).toBe(false); // it does not ask to be woken for what it would not take
    expect(wire.events).toEqual([]);
    held[0]!.resolve();
    await expect.poll(() => wire.events).toEqual(["wake"]);
    expect(wire.session.take()).toBe(1);
  });
});

describe("a disk that may only be read", () => {
  const wire = () => new FuseWire(memoryDevice(4096, { writable: false }));

  test("cannot be opened, written, punched", async () => {
    expect((await wire().ask(FUSE_OP.OPEN, openBody(2))).error).toBe(EROFS);
    expect((await wire().ask(FUSE_OP.OPEN, openBody(0))).error).toBe(0);
    expect((await wire().write(0, pattern(512))).error).toBe(EROFS);
    expect((await wire().fallocate(PUNCH, 0, 4096)).error).toBe(EROFS);
    expect((await wire().ask(FUSE_OP.FSYNC, new Uint8Array(16))).error).toBe(0);
  });
});

describe("flush, discard, holes", () => {
  test("FSYNC ends when the device has flushed", async () => {
    const { device, held } = heldDevice(4096);
    const wire = new FuseWire(device);
    const name = wire.request(FUSE_OP.FSYNC, new Uint8Array(16));
    wire.session.take();
    expect([wire.replies.length, held.length]).toEqual([0, 1]);
    held[0]!.resolve();
    expect((await wire.reply(name)).error).toBe(0);
  });

  /** Discards half of what it is told, as devices may. */
  function forgetful(bytes: Uint8Array): { device: BlockDevice; writes: number[]; discards: number[][] } {
    const inner = memoryDevice(bytes);
    const writes: number[] = [];
    const discards: number[][] = [];
    const device = defineDevice({
      ...{ label: "forgetful", size: bytes.length, blockSize: 512 },
      read: (offset, into) => inner.read(offset, into),
      write: (offset, data) => inner.write(offset, data),
      async zero(offset, length) {
        writes.push(offset, length);
        await inner.zero(offset, length);
      },
      async discard(offset, length) {
        discards.push([offset, length]);
        bytes.fill(0, offset, offset + length / 2);
      },
    });
    return { device, writes, discards };
  }

  test("a punched hole is discarded, and reads as zeros even where that left something", async () => {
    const bytes = pattern(8 << 20);
    const expected = bytes.slice();
    expected.fill(0, 1 << 20, 5 << 20);
    const { device, writes, discards } = forgetful(bytes);
    expect((await new FuseWire(device).fallocate(PUNCH, 1 << 20, 4 << 20)).error).toBe(0);
    expect(Buffer.compare(bytes, expected)).toBe(0);
    expect(discards).toEqual([[1 << 20, 4 << 20]]);
    expect(writes).toEqual([3 << 20, 1 << 20, 4 << 20, 1 << 20]); // only what was not zero yet
  });

  test("zeroing keeps the space", async () => {
    const bytes = pattern(8192);
    const { device, writes, discards } = forgetful(bytes);
    expect((await new FuseWire(device).fallocate(ZERO_RANGE | 1, 4096, 1 << 20)).error).toBe(0); // to the end
    expect([writes, discards]).toEqual([[4096, 4096], []]);
  });

  test("other modes, empty and misplaced ranges are refused", async () => {
    const wire = () => new FuseWire(memoryDevice(8192, { blockSize: 512 }));
    expect((await wire().fallocate(0, 0, 4096)).error).toBe(EOPNOTSUPP); // more than its size never is
    expect((await wire().fallocate(0x08, 0, 4096)).error).toBe(EOPNOTSUPP); // COLLAPSE_RANGE
    expect((await wire().fallocate(PUNCH, 0, 0)).error).toBe(EINVAL);
    expect((await wire().fallocate(PUNCH, 8193, 1)).error).toBe(EINVAL);
    expect((await wire().fallocate(PUNCH, 100, 512)).error).toBe(EINVAL); // not in blocks
  });

  test("data and holes are found", async () => {
    const runs = [
      { offset: 0, length: 4096, data: true, zero: false },
      { offset: 4096, length: 4096, data: false, zero: true },
      { offset: 8192, length: 4096, data: true, zero: false },
    ];
    const device = defineDevice({
      ...{ label: "runs", size: 12288 },
      read: async () => {},
      async *extents(offset, length) {
        for (const run of runs) {
          const [from, to] = [Math.max(run.offset, offset), Math.min(run.offset + run.length, offset + length)];
          if (from < to)
            yield { ...run, offset: from, length: to - from, present: run.data, depth: 0, hostOffset: null };
        }
      },
    });
    const wire = new FuseWire(device);
    const at = async (whence: "data" | "hole", offset: number) => {
      const { error, body } = await wire.seek(whence, offset);
      return error < 0 ? error : LSEEK_OUT.decode(body).offset;
    };
    expect([await at("data", 100), await at("data", 5000), await at("data", 12288)]).toEqual([100, 8192, ENXIO]);
    expect([await at("hole", 0), await at("hole", 5000), await at("hole", 9000)]).toEqual([4096, 5000, 12288]);
  });

  test("an interrupted punch ends early, any other request goes on", async () => {
    const { device, held } = heldDevice(64 * MAX_DATA);
    const wire = new FuseWire(device);
    const answer = wire.fallocate(PUNCH, 0, 64 * MAX_DATA); // request 2
    await expect.poll(() => held.length).toBe(4);
    wire.request(FUSE_OP.INTERRUPT, interruptBody(2));
    wire.request(FUSE_OP.INTERRUPT, interruptBody(999)); // of nothing
    wire.session.take();
    for (const { resolve } of held) resolve();
    expect((await answer).error).toBe(EINTR);
    expect([held.length, wire.replies.length]).toEqual([4, 1]);
  });
});

describe("what should not be", () => {
  test("an unknown request is ENOSYS, one without a reply has none", async () => {
    const wire = new FuseWire(memoryDevice(4096));
    for (const opcode of [0, 22, 27, 52, 4096, 0xffff_ffff]) expect((await wire.ask(opcode)).error).toBe(ENOSYS);
    const before = wire.replies.length;
    wire.request(FUSE_OP.FORGET, new Uint8Array(8));
    wire.request(FUSE_OP.BATCH_FORGET, new Uint8Array(8));
    expect([wire.session.take(), wire.replies.length]).toEqual([2, before]);
  });

  test.each(Object.entries(FUSE_OP))("%s without its body is answered, or needs none", async (name, opcode) => {
    const wire = new FuseWire(memoryDevice(4096));
    wire.request(opcode);
    wire.session.take();
    await new Promise((resolve) => setImmediate(resolve));
    const errors = wire.replies.map(({ error }) => error);
    if (["FORGET", "BATCH_FORGET"].includes(name)) expect(errors).toEqual([]);
    else expect(errors).toHaveLength(1);
    if (["READ", "WRITE", "INIT", "OPEN", "FALLOCATE", "LSEEK", "INTERRUPT"].includes(name))
      expect(errors).toEqual([EINVAL]);
  });

  test("lengths that are not the message's", async () => {
    const wire = new FuseWire(memoryDevice(1 << 20));
    expect((await wire.write(0, pattern(512), 513)).error).toBe(EINVAL);
    expect((await wire.write(0, pattern(512), 0)).error).toBe(EINVAL);
    expect((await wire.read(0, 0xffff_ffff)).error).toBe(EINVAL);
    const lying = IN_HEADER.encode({
      ...{ length: 4000, opcode: FUSE_OP.GETATTR, unique: 77n, node: 2n },
      ...{ uid: 0, gid: 0, pid: 1, extensionLength: 0 },
    });
    wire.push(lying);
    wire.push(lying.subarray(0, 39)); // not even a header: nothing can be answered
    expect(wire.session.take()).toBe(2);
    expect(await wire.reply(77)).toMatchObject({ error: EINVAL });
  });

  test("the channel's errors: gone callers are skipped, the end is told once", () => {
    const wire = new FuseWire(memoryDevice(4096));
    wire.errors.push(ENOENT, EINTR);
    wire.request(FUSE_OP.GETATTR);
    expect(wire.session.take()).toBe(1);
    wire.errors.push(ENODEV);
    expect([wire.session.take(), wire.session.finalCheck(), wire.session.ended]).toEqual([0, false, true]);
    expect(wire.events).toEqual(["end -19"]);
  });

  test("a last look arms first, so that nothing is missed", () => {
    const wire = new FuseWire(memoryDevice(4096));
    expect([wire.session.finalCheck(), wire.events]).toEqual([false, ["arm"]]);
    wire.request(FUSE_OP.GETATTR);
    expect(wire.session.finalCheck()).toBe(true);
  });

  test("any bytes are answered at most once, and never thrown for", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 0, maxLength: 300 }),
        fc.constantFrom(...Object.values(FUSE_OP)),
        async (bytes, opcode) => {
          const wire = new FuseWire(memoryDevice(1 << 16, { blockSize: 512 }));
          if (bytes.length >= IN_HEADER.size) {
            const view = new DataView(bytes.buffer, bytes.byteOffset);
            view.setUint32(0, bytes.length, true);
            view.setUint32(4, opcode, true);
          }
          wire.push(bytes);
          expect(wire.session.take()).toBe(1);
          await expect.poll(() => wire.session.inFlight).toBe(0);
          expect(wire.replies.length).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 300 },
    );
  });
});
