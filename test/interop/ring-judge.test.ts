/**
 * Xen's own headers judge our rings: a C program made of ring.h's macros and blkif.h's structures (ring-judge.c) plays the
 * frontend of our backend and the backend of our frontend, on memory that both map. All ring sizes, both ABIs.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import koffi from "koffi";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { createDomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { havePeer, requirePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { settle } from "../xen/raw-frontend.js";
import { limitsOf } from "../xen/ring-pair.js";

const HEADER = "/usr/include/xen/io/blkif.h";
const SOURCE = fileURLToPath(new URL("ring-judge.c", import.meta.url));
/** The judge's first data page, and its reference. */
const DATA = 100;
const dir = tempDir();

const programs: Record<string, string> = {};
const children: ChildProcess[] = [];
const unmaps: (() => void)[] = [];

const JUDGED = havePeer("cc") && requirePeer("Xen's headers (libxen-dev)", existsSync(HEADER));

function compile(protocol: string): string {
  const program = join(dir, protocol);
  const flags = protocol === "x86_32-abi" ? ["-DABI32"] : [];
  const { status, stderr } = spawnSync("cc", ["-O1", "-Wall", "-Wextra", ...flags, "-o", program, SOURCE], {
    encoding: "utf8",
  });
  expect([status, stderr]).toEqual([0, ""]);
  return program;
}

/** The bytes of a file of that size, which others who map it see at once. */
function mapFile(path: string, size: number): SharedArrayBuffer {
  const libc = koffi.load(null);
  const mmap = libc.func("mmap", "void *", ["void *", "size_t", "int", "int", "int", "int64_t"]);
  const munmap = libc.func("munmap", "int", ["void *", "size_t"]);
  const file = openSync(path, "w+");
  ftruncateSync(file, size);
  const PROT_READ_WRITE = 3;
  const MAP_SHARED = 1;
  const address = mmap(null, size, PROT_READ_WRITE, MAP_SHARED, file, 0);
  closeSync(file);
  unmaps.push(() => munmap(address, size));
  return koffi.view(address, size) as unknown as SharedArrayBuffer; // an ArrayBuffer, of which we ask nothing else
}

/** Two domains of which the guest's memory and grant table are files, and a judge that plays one of them. */
function start(protocol: string, memorySize: number) {
  const paths = [join(dir, `memory-${children.length}`), join(dir, `grants-${children.length}`)];
  const pages0 = createDomainPages(0, 1 << 20);
  const made = createDomainPages(1, 4096);
  const pages1 = {
    ...made,
    memory: mapFile(paths[0]!, memorySize),
    grantTable: mapFile(paths[1]!, made.grantTable.byteLength),
  };
  const dom0 = simulatedPlatform(pages0, 1);
  const guest = simulatedPlatform(pages1, 0);
  dom0.introduce(pages1);
  guest.introduce(peerView(pages0));
  const child = spawn(programs[protocol]!, paths, { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  /** The judge's answers to some commands, without their "ok". */
  const ask = async (...commands: string[]): Promise<string[]> => {
    child.stdin.write(commands.map((command) => `${command}\n`).join(""));
    const answer: string[] = [];
    for (let left = commands.length; left > 0; ) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`the judge ended: ${answer.at(-1)}`);
      if (value === "ok") left--;
      else answer.push(value);
    }
    return answer;
  };
  return { dom0, guest, pages1, memory: new Uint8Array(pages1.memory), ask };
}

afterEach(async () => {
  for (const child of children) {
    child.stdin!.end();
    if (child.exitCode === null) await new Promise((resolve) => child.on("close", resolve));
  }
  for (const unmap of unmaps.splice(0)) unmap();
});

const SHAPES = Object.values(ABIS).flatMap((abi) => [1, 2, 4, 8, 16].map((pages) => ({ abi, pages, ...abi })));

describe.skipIf(!JUDGED)("ring.h and blkif.h", () => {
  beforeAll(() => {
    for (const protocol of Object.keys(ABIS)) programs[protocol] = compile(protocol);
  });

  test.each(SHAPES)("a frontend of theirs, our backend: $protocol, $pages pages", async ({ abi, pages, protocol }) => {
    const { dom0, guest, memory, ask } = start(protocol, 2 << 20);
    const size = 32 * pages;
    expect(await ask(`front ${pages}`)).toEqual([`size ${size} sizeof ${abi.stride}`]);
    const disk = memoryDevice(4 << 20);
    let events = 0;
    const eventChannel = guest.events.allocUnbound(0);
    guest.events.listen(eventChannel, () => events++);
    const ringRefs = Array.from({ length: pages }, (_, i) => 8 + i);
    const address = { frontendDomid: 1, ringRefs, eventChannel, abi, maxIndirectSegments: 256 };
    const back = new BlkbackQueue(dom0, disk, limitsOf(disk), address, () => {});
    /** Statuses by id, and whether the backend told. */
    const run = async (...commands: string[]) => {
      const [notify] = await ask(...commands, "push-requests");
      await settle(back);
      while (back.finalCheck()) await settle(back);
      events = 0;
      guest.vcpu.dispatch();
      return { notify, told: events, responses: await ask("responses") };
    };

    // Every slot of the ring three times over, also those that straddle pages; ids use all 64 bits.
    let sector = 0;
    for (let round = 0; round < 3; round++) {
      const ids = Array.from({ length: size }, (_, i) => (BigInt(i) << 50n) | BigInt(round + 1));
      memory.fill(round + 1, DATA * 4096, (DATA + 1) * 4096);
      const writes = ids.map((id, i) => `put 1 ${id} ${sector + (i % 64) * 8} 1`);
      const { notify, told, responses } = await run(...writes);
      expect({ notify, told }).toEqual({ notify: "notify 1", told: 1 });
      expect(responses).toEqual(ids.map((id) => `${id} 1 0`));
      const seen = new Uint8Array(64 * 4096);
      await disk.read(sector * 512, seen);
      expect(seen.every((byte, i) => byte === (i < Math.min(size, 64) * 4096 ? round + 1 : 0))).toBe(true);
      sector += 64 * 8;
    }

    // Eleven segments, more through an indirect page, a flush, a barrier, a discard, and what must be refused.
    for (let i = 0; i < 200; i++) memory.fill(i + 7, (DATA + i) * 4096, (DATA + i + 1) * 4096);
    expect((await run("put 1 1 4096 11", "indirect 1 2 4184 200")).responses.toSorted()).toEqual(["1 1 0", "2 1 0"]);
    const written = new Uint8Array(211 * 4096);
    await disk.read(4096 * 512, written);
    for (let i = 0; i < 211; i++) expect(written[i * 4096 + 77]).toBe(((i < 11 ? i : i - 11) + 7) & 0xff);
    memory.fill(0, DATA * 4096, (DATA + 256) * 4096);
    expect((await run("indirect 0 3 4184 200")).responses).toEqual(["3 0 0"]);
    for (let i = 0; i < 200; i++) expect(memory[(DATA + i) * 4096 + 4095]).toBe((i + 7) & 0xff);
    expect((await run("put 3 4 0 0")).responses).toEqual(["4 3 0"]);
    expect((await run("put 2 5 0 1")).responses).toEqual(["5 2 0"]);
    expect((await run("discard 6 8 16")).responses).toEqual(["6 5 0"]);
    expect((await run("discard 7 8190 16")).responses).toEqual(["7 5 -1"]);
    expect((await run("put 4 8 0 0")).responses).toEqual(["8 4 -2"]);
    expect((await run("indirect 5 9 0 3")).responses).toEqual(["9 5 -1"]);
    await back.close();
    expect(dom0.foreign.mapped).toBe(0);
  });

  test.each(SHAPES)("our frontend, a backend of theirs: $protocol, $pages pages", async ({ abi, pages, protocol }) => {
    const { dom0, guest, memory, ask } = start(protocol, (pages * 32 * 33 + 256) * 4096); // a page of segments and 32 of data for each slot
    const size = 32 * pages;
    const front = new BlkfrontQueue(guest, 0, pages, abi);
    front.negotiate({ maxSegments: 32, persistent: false, flush: 3 });
    const port = dom0.events.bindInterdomain(1, front.eventChannel);
    expect(await ask(`back ${front.ringRefs.join(" ")}`)).toEqual([`size ${size}`]);
    /** The judge's reading of what was asked, then its answers; resolves when our side has taken them. */
    const serve = async (answer: (request: string, id: string) => string) => {
      await null; // the frontend's push
      const requests = await ask("requests");
      const answers = requests.map((request) => answer(request, request.split(" ")[1]!));
      const [notify] = await ask(...answers, "push-responses");
      expect(notify).toBe("notify 1");
      dom0.events.notify(port);
      guest.vcpu.dispatch();
      // As the loop of its thread does before it sleeps.
      do while (front.take() > 0);
      while (front.finalCheck());
      return requests;
    };
    const frames = (request: string) =>
      [...request.matchAll(/ (\d+):(\d)-(\d)/g)].map((match) => match.slice(1).map(Number));

    // Every slot of the ring three times over, one of them more than fits.
    for (let round = 0; round < 3; round++) {
      const buffers = Array.from({ length: size + 1 }, () => new Uint8Array(512));
      const reads = buffers.map((into, i) => front.read((i + 2 ** 35) * 512, into));
      const requests = await serve((request, id) => {
        const [[frame] = []] = frames(request);
        memory.fill(Number(id) + round, frame! * 4096, frame! * 4096 + 512);
        return `respond ${id} 0 0`;
      });
      expect(requests).toHaveLength(size);
      for (const [i, request] of requests.entries())
        expect(request).toMatch(new RegExp(`^op-0 \\d+ ${i + 2 ** 35} \\d+:0-0$`));
      expect(await serve((_request, id) => `respond ${id} 0 0`)).toHaveLength(1);
      await Promise.all(reads);
      for (const [i, request] of requests.entries())
        expect(buffers[i]![511]).toBe((Number(request.split(" ")[1]) + round) & 0xff);
    }

    const data = Uint8Array.from({ length: 131072 + 44032 }, (_, i) => (i >> 9) * 3);
    const writing = front.write(2 ** 32 * 512, data);
    const [large, rest] = await serve((request, id) => {
      const parts = frames(request).map(([frame, first, last]) =>
        memory.slice(frame! * 4096 + first! * 512, frame! * 4096 + (last! + 1) * 512),
      );
      const from = request.startsWith("indirect") ? 0 : 131072;
      expect(Buffer.compare(Buffer.concat(parts), data.subarray(from, from + Buffer.concat(parts).length))).toBe(0);
      return `respond ${id} 1 0`;
    });
    await writing;
    expect(large).toMatch(new RegExp(`^indirect-1 \\d+ ${2 ** 32}( \\d+:0-7){32}$`));
    expect(rest).toMatch(new RegExp(`^op-1 \\d+ ${2 ** 32 + 256}( \\d+:0-7){10} \\d+:0-5$`));

    const others = [front.flush(), front.discard(4096, 2 ** 42)];
    const [flush, discard] = await serve((request, id) => `respond ${id} ${request.startsWith("discard") ? 5 : 3} 0`);
    await Promise.all(others);
    expect(flush).toMatch(/^op-3 \d+ 0$/);
    expect(discard).toMatch(new RegExp(`^discard \\d+ 8 ${2 ** 33} 0$`));
    front.close("closed by the test");
  });
});
