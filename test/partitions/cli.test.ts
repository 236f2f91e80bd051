/** `xvd part` as people and scripts use it: output, exit codes, dry runs, refusals, and a move that is killed. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { XVD, type XvdWorld, xvdWorld } from "../support/xvd.js";

const MIB = 1 << 20;

interface Listed {
  readonly partitiontable: {
    label: string;
    sectorsize: number;
    partitions: { node: string; start: number; size: number; type: string; name?: string }[];
  };
}

function image(world: XvdWorld, name: string, size: number): string {
  writeFileSync(world.path(name), "");
  truncateSync(world.path(name), size);
  return name;
}

const numbers = ({ partitiontable }: Listed) =>
  partitiontable.partitions.map(({ node }) => Number(/\d+$/.exec(node)![0]));

describe("xvd part", () => {
  const world = xvdWorld();

  beforeAll(async () => {
    image(world, "empty.dsk", 16 * MIB);
    image(world, "table.dsk", 16 * MIB);
    writeFileSync(world.path("bad.txt"), "label: gpt\nstart=one\nwhat is this\n");
    await world.xvd("part", "apply", "table.dsk", "linux:1M");
  });

  it("makes, lists, names, resizes and removes partitions", async () => {
    const disk = image(world, "a.dsk", 64 * MIB);
    expect(await world.xvd("part", "init", disk, "gpt")).toMatch(/^a\.dsk: make an empty gpt table, id [0-9A-F-]{36}/);
    for (const size of ["4M", "2048s", "100%FREE"])
      await world.xvd("part", "add", disk, "--size", size, "--name", size);
    const listed = await world.json<Listed>("part", "list", disk);
    expect(listed.partitiontable.partitions.map(({ start, size, name }) => [start, size, name])).toEqual([
      [2048, 8192, "4M"],
      [10240, 2048, "2048s"],
      [12288, 116736, "100%FREE"],
    ]);
    await world.xvd("part", "set", disk, "2", "--type", "swap", "--name", "");
    await world.xvd("part", "resize", disk, "3", "--", "-10M");
    await world.xvd("part", "rm", disk, "1");
    const after = await world.json<Listed>("part", "list", disk);
    expect(numbers(after)).toEqual([2, 3]);
    expect(after.partitiontable.partitions[0]).toMatchObject({ type: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F" });
    expect(after.partitiontable.partitions[1]).toMatchObject({ size: 116736 - 20480 });
    const text = await world.xvd("part", "list", disk);
    expect(text).toMatch(/GPT, 64 MiB, 2 partitions/);
    expect(text).toMatch(/^┌─.*┐$/m);
    expect(text).toContain("free 11 MiB");
  });

  it("a dry run tells the writes and does none", async () => {
    const disk = image(world, "dry.dsk", 16 * MIB);
    await world.xvd("part", "init", disk, "gpt");
    const before = readFileSync(world.path(disk));
    for (const args of [
      ["add", disk],
      ["init", disk, "mbr", "--force"],
      ["apply", disk, "efi:4M,linux:*"],
      ["convert", disk, "mbr"],
      ["repair", disk],
    ]) {
      const out = await world.xvd("part", ...args, "--dry-run");
      if (args[0] !== "repair") expect(out).toMatch(/: dry run: .*\n {2}(write|zero) \d+ bytes at \d+: /);
      const json = await world.json<{ changed: boolean; "dry-run": boolean }>("part", ...args, "--dry-run");
      expect(json).toMatchObject({ changed: false, "dry-run": true });
    }
    expect(Buffer.compare(readFileSync(world.path(disk)), before)).toBe(0);
  });

  it.each([
    [["list", "empty.dsk"], 1, /find a partition table on .*neither a GPT nor an MBR/],
    [["list", "missing.dsk"], 1, /missing\.dsk.*no such file/],
    [["init", "empty.dsk", "apm"], 2, /allowed are gpt and mbr/],
    [["init", "empty.dsk", "gpt", "--sector-size", "520"], 2, /allowed are 512 and 4096/],
    [["add", "table.dsk", "--size", "90G"], 1, /fit nowhere, the largest free space/],
    [["add", "table.dsk", "--size", "lots"], 2, /cannot read size/],
    [["add", "table.dsk", "--number", "16"], 1, /fifteen/],
    [["add", "table.dsk", "--logical"], 2, /GPT has no logical/],
    [["add", "table.dsk", "--type", "nonsense"], 2, /is not known here/],
    [["rm", "table.dsk", "7"], 1, /none of this number/],
    [["set", "table.dsk", "1"], 2, /nothing to set/],
    [["init", "table.dsk", "gpt"], 1, /--force replaces it/],
    [["apply", "table.dsk", "no-such-file"], 1, /no such file/],
    [["apply", "table.dsk", "bad.txt"], 2, /cannot read size "one"/],
    [["convert", "table.dsk"], 2, /name gpt, mbr or a --sector-size/],
    [["move", "table.dsk", "--resume"], 1, /no move was cut/],
    [["verify", "empty.dsk"], 1, /^$/],
  ] as const)("%j is refused with exit code %i", async (args, code, message) => {
    const result = await world.run(["part", ...args]);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/^ +at /m);
    expect(result.code).toBe(code);
  });

  it("a sixteenth is refused by the limit of fifteen, on both kinds of table", async () => {
    for (const label of ["gpt", "mbr"]) {
      const disk = image(world, `full-${label}.dsk`, 64 * MIB);
      await world.xvd("part", "init", disk, label);
      const layout = Array.from({ length: label === "gpt" ? 15 : 3 }, () => "linux:1M").join(",");
      await world.xvd("part", "apply", disk, layout);
      if (label === "mbr")
        for (let i = 5; i <= 15; i++) await world.xvd("part", "add", disk, "--logical", "--size", "1M");
      const result = await world.run(["part", "add", disk, "--size", "1M", ...(label === "mbr" ? ["--logical"] : [])]);
      expect(result).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/fifteen/) });
      expect(Math.max(...numbers(await world.json<Listed>("part", "list", disk)))).toBe(15);
    }
  });

  it("verifies and repairs, and warns on stderr beside clean JSON", async () => {
    const disk = image(world, "hurt.dsk", 16 * MIB);
    await world.xvd("part", "apply", disk, "linux:4M:data");
    const device = await openFileDevice(world.path(disk), { writable: true });
    await device.write(512, new Uint8Array(512).fill(0xa5));
    await device.close();
    const listed = await world.run(["part", "list", disk, "--json"]);
    expect(numbers(JSON.parse(listed.stdout))).toEqual([1]);
    expect(listed.stderr).toMatch(/^xvd: warning: hurt\.dsk: the primary GPT is bad/);
    const verified = await world.run(["part", "verify", disk, "--json"]);
    expect(verified.code).toBe(1);
    expect(JSON.parse(verified.stdout)).toMatchObject({ clean: false, problems: [{ code: "recovered-from-backup" }] });
    await world.xvd("part", "repair", disk);
    expect(await world.xvd("part", "verify", disk)).toMatch(/is good/);
  });

  it("dump and apply are each other's opposite", async () => {
    const disk = image(world, "from.dsk", 32 * MIB);
    await world.xvd("part", "apply", disk, "efi:4M:one,swap:8M,linux:*:three");
    const script = await world.xvd("part", "dump", disk);
    const copy = image(world, "to.dsk", 32 * MIB);
    const result = await world.run(["part", "apply", copy, "-"], { input: script });
    expect(result.code).toBe(0);
    expect(Buffer.compare(readFileSync(world.path(disk)), readFileSync(world.path(copy)))).toBe(0);
    expect((await world.run(["part", "apply", disk], { input: script })).stdout).toMatch(/nothing to write/);
  });

  it("proposes a table from file systems when no copy is left, and writes it only when told", async () => {
    const disk = image(world, "lost.dsk", 32 * MIB);
    const swap = new Uint8Array(4096);
    swap.set(Buffer.from("SWAPSPACE2"), 4086);
    const header = new DataView(swap.buffer);
    header.setUint32(1024, 1, true);
    header.setUint32(1028, 1023, true); // last page: 4 MiB
    const device = await openFileDevice(world.path(disk), { writable: true });
    await device.write(8 * MIB, swap);
    await device.close();
    const proposed = await world.run(["part", "repair", disk]);
    expect(proposed).toMatchObject({ code: 1, stderr: expect.stringMatching(/--accept writes it/) });
    expect(proposed.stdout).toMatch(/dry run: partition 1: 4 MiB at 8 MiB, Linux swap/);
    expect((await world.run(["part", "list", disk])).code).toBe(1);
    await world.xvd("part", "repair", disk, "--accept");
    const listed = await world.json<Listed>("part", "list", disk);
    expect(listed.partitiontable.partitions).toMatchObject([{ start: 16384, size: 8192 }]);
  });
});

describe("xvd part move", () => {
  const world = xvdWorld();
  const SIZE = 40 * MIB;

  async function prepared(name: string): Promise<string> {
    const disk = image(world, name, 64 * MIB);
    await world.xvd("part", "apply", disk, `linux:${SIZE}`);
    const device = await openFileDevice(world.path(disk), { writable: true });
    const bytes = new Uint8Array(SIZE);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < SIZE; at += 512) view.setUint32(at, at + 1);
    await device.write(MIB, bytes);
    await device.close();
    return disk;
  }

  function intact(disk: string, offset: number): boolean {
    const bytes = readFileSync(world.path(disk)).subarray(offset, offset + SIZE);
    for (let at = 0; at < SIZE; at += 512) if (bytes.readUInt32BE(at) !== at + 1) return false;
    return true;
  }

  /** A disk on which a move by one sector was killed: every piece goes through the journal, so there is time to be killed in. */
  async function killedMove(name: string): Promise<string> {
    for (let attempt = 0; attempt < 10; attempt++) {
      const disk = await prepared(`${attempt}-${name}`);
      const journal = world.path(`${disk}.xvd-move`);
      const child = spawn(process.execPath, [XVD, "part", "move", disk, "1", "--start", "+1s"], {
        cwd: world.dir,
        env: { ...process.env, ...world.env },
      });
      const ended = new Promise((resolve) => child.once("exit", resolve));
      while (!existsSync(journal) && child.exitCode === null) await sleep(1);
      await sleep(attempt * 3);
      child.kill("SIGKILL");
      await ended;
      if (existsSync(journal)) return disk;
    }
    throw new Error("the move was always faster than its end");
  }

  it("moves a partition with its bytes over itself", async () => {
    const disk = await prepared("m.dsk");
    expect(await world.xvd("part", "move", disk, "1", "--start", "3M")).toMatch(
      /partition 1: 40 MiB from 1 MiB to 3 MiB/,
    );
    expect(intact(disk, 3 * MIB)).toBe(true);
    await world.xvd("part", "move", disk, "1", "--start", "+1s");
    await world.xvd("part", "move", disk, "1", "--start", "1M");
    expect(intact(disk, MIB)).toBe(true);
    expect(existsSync(world.path("m.dsk.xvd-move"))).toBe(false);
  });

  it("stops at SIGINT between two pieces and says how to go on", async () => {
    const disk = await prepared("int.dsk");
    const abort = new AbortController();
    const running = world.run(["part", "move", disk, "1", "--start", "+1s"], { abort: abort.signal, signal: "SIGINT" });
    let ended = false;
    running.then(() => (ended = true));
    while (!existsSync(world.path(`${disk}.xvd-move`)) && !ended) await sleep(1);
    abort.abort();
    const { code, stderr } = await running;
    if (code !== 0) {
      expect(code).toBe(130);
      expect(stderr).toMatch(/interrupted by SIGINT, xvd part move int\.dsk --resume goes on, --rollback undoes it/);
      await world.xvd("part", "move", disk, "--resume");
    }
    expect(intact(disk, MIB + 512)).toBe(true);
    expect(existsSync(world.path(`${disk}.xvd-move`))).toBe(false);
  });

  it.each(["resume", "rollback"])(
    "killed in the middle, nothing else touches the table, and %s loses no byte",
    async (way) => {
      const disk = await killedMove(`${way}.dsk`);
      if (way === "resume") await world.xvd("create", "spare.dsk", "1M");
      const journal = world.path(`${disk}.xvd-move`);
      expect(await world.run(["part", "add", disk, "--size", "1M"])).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/a move of one of its partitions was cut .*--resume' or '--rollback'/),
      });
      for (const args of [
        ["io", disk, "-c", "write 0 512"],
        ["resize", disk, "+1M"],
        ["mkfs", `${disk}#p1`, "ext2", "--force"],
        ["create", disk, "1M", "--force"],
        ["clone", "spare.dsk", disk, "--force"],
      ])
        expect({ args, ...(await world.run(args)) }).toMatchObject({
          code: 1,
          stderr: expect.stringMatching(/was cut/),
        });
      expect(await world.run(["part", "move", disk, "1", "--start", "9M"])).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/was cut, --resume/),
      });
      expect(await world.run(["part", "verify", disk])).toMatchObject({
        code: 1,
        stdout: expect.stringMatching(/a move was cut/),
      });
      await world.xvd("part", "move", disk, `--${way}`);
      expect(intact(disk, way === "resume" ? MIB + 512 : MIB)).toBe(true);
      expect(existsSync(journal)).toBe(false);
      expect(existsSync(`${journal}.bytes`)).toBe(false);
      expect(statSync(world.path(disk)).size).toBe(64 * MIB);
      await world.xvd("part", "verify", disk);
    },
  );
});
