/** The image verbs as a user runs them, judged by qemu-img, cmp and the file systems' own checkers. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";

const MIB = 1 << 20;

function peer(world: XvdWorld, program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd: world.dir, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** What ends with another code than 0, and what it says in one line. */
async function failure(world: XvdWorld, ...args: string[]): Promise<{ code: number | null; said: string }> {
  const { code, stdout, stderr } = await world.run(args);
  expect(stdout, args.join(" ")).toBe("");
  expect(stderr.trimEnd().split("\n"), args.join(" ")).toHaveLength(1);
  return { code, said: stderr.trim() };
}

describe("create and info", () => {
  test("sparse, reserved, and never over something", async () => {
    const world = xvdWorld();
    expect(await world.json("create", "a.dsk", "2G")).toEqual({
      filename: "a.dsk",
      format: "raw",
      "virtual-size": 2 ** 31,
      "actual-size": 0,
    });
    expect([statSync(world.path("a.dsk")).size, statSync(world.path("a.dsk")).blocks]).toEqual([2 ** 31, 0]);
    await world.xvd("create", "full.img", "1M", "-f", "raw", "--preallocation", "full");
    expect(statSync(world.path("full.img")).blocks * 512).toBeGreaterThanOrEqual(MIB);
    await world.xvd("create", "o.raw", "1M", "-o", "preallocation=falloc");
    expect(statSync(world.path("o.raw")).blocks * 512).toBeGreaterThanOrEqual(MIB);

    expect(await failure(world, "create", "a.dsk", "1G")).toEqual({
      code: 1,
      said: expect.stringMatching(/^xvd create: .*"a\.dsk": it exists already, allowed with --force$/),
    });
    await world.xvd("create", "a.dsk", "1000", "--force");
    expect(statSync(world.path("a.dsk")).size).toBe(1024); // whole sectors
    expect(await world.json("info", "a.dsk")).toMatchObject({
      filename: "a.dsk",
      format: "raw",
      "virtual-size": 1024,
      "dirty-flag": false,
    });
  });

  test("wrong use is told in one line with exit code 2, other failures with 1", async () => {
    const world = xvdWorld();
    const before = readdirSync(world.dir);
    const cases: [number, RegExp, string[]][] = [
      [2, /size "12Q"/, ["create", "z.dsk", "12Q"]],
      [
        2,
        /preallocation is "metadata", allowed off falloc full/,
        ["create", "z.dsk", "1M", "--preallocation", "metadata"],
      ],
      [2, /option "x" is not known/, ["create", "z.dsk", "1M", "-o", "x=1"]],
      [2, /format "bmp"/, ["create", "z.dsk", "1M", "-f", "bmp"]],
      [2, /no size is given/, ["create", "z.dsk"]],
      [1, /its name says qed/, ["create", "z.qed", "1M"]],
      [1, /no such file or directory/, ["create", "no/z.dsk", "1M"]],
      [1, /larger than the file system or the limit on file sizes allows/, ["create", "z.dsk", "8000T"]],
      [1, /"nothere\.dsk": no such file/, ["info", "nothere.dsk"]],
      [2, /"nbd:\/\/h\/e#x"/, ["info", "nbd://h/e#x"]],
    ];
    for (const [code, said, args] of cases)
      expect(await failure(world, ...args)).toEqual({ code, said: expect.stringMatching(said) });
    const { stderr } = await world.run(["info", "nothere.dsk", "--json"]);
    expect(JSON.parse(stderr)).toMatchObject({
      error: { code: "NOT_FOUND", message: expect.any(String), details: {} },
    });
    expect(readdirSync(world.dir)).toEqual(before);
  });
});

describe.skipIf(!havePeer("qemu-img"))("against qemu-img", () => {
  test("info, map, compare, resize", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "64M");
    await world.xvd("io", "a.dsk", "-c", "write -P 7 1M 300k", "-c", "write 40M 4k", "-c", "write 67108352 512");
    const theirs = JSON.parse(peer(world, "qemu-img", "info", "--output=json", "-f", "raw", "a.dsk"));
    expect(await world.json("info", "a.dsk")).toMatchObject({
      format: "raw",
      "virtual-size": theirs["virtual-size"],
      "actual-size": theirs["actual-size"],
      "dirty-flag": theirs["dirty-flag"],
    });
    expect(await world.json("map", "a.dsk")).toEqual(
      JSON.parse(peer(world, "qemu-img", "map", "--output=json", "-f", "raw", "a.dsk")),
    );
    expect(await world.xvd("map", "a.dsk")).toMatch(/^a\.dsk: \d+ KiB of 64 MiB stored, 3 runs\n0 [·▒█]{64} 64 MiB\n/);

    await world.xvd("convert", "a.dsk", "b.img", "--verify");
    peer(world, "qemu-img", "compare", "-f", "raw", "-F", "raw", "a.dsk", "b.img");
    expect(await world.json("compare", "a.dsk", "b.img")).toEqual({ same: true, "first-difference": null });
    await world.xvd("resize", "b.img", "+16M");
    expect(await world.json("compare", "a.dsk", "b.img")).toEqual({ same: true, "first-difference": null });
    const strict = await world.run(["compare", "a.dsk", "b.img", "--strict", "--json"]);
    expect([strict.code, JSON.parse(strict.stdout)]).toEqual([1, { same: false, "first-difference": 64 * MIB }]);
    await world.xvd("io", "b.img", "-c", "write -P 1 3M 1");
    const { code, stdout } = await world.run(["compare", "a.dsk", "b.img"]);
    expect([code, stdout]).toEqual([1, "the disks differ, first at byte 3145728\n"]);
    expect(await failure(world, "compare", "a.dsk", "nothere.dsk")).toMatchObject({ code: 2 });

    expect((await failure(world, "resize", "b.img", "1M")).said).toMatch(/allowed with --shrink/);
    expect((await failure(world, "resize", "b.img", "-79M", "--shrink")).said).toMatch(/byte \d+ holds data/);
    const dry = await world.json<{ "virtual-size": number; "dry-run": boolean }>(
      "resize",
      "b.img",
      "-8M",
      "--shrink",
      "--dry-run",
    );
    expect([dry["virtual-size"], dry["dry-run"], statSync(world.path("b.img")).size]).toEqual([
      72 * MIB,
      true,
      80 * MIB,
    ]);
    await world.xvd("resize", "b.img", "-8M", "--shrink");
    expect(statSync(world.path("b.img")).size).toBe(72 * MIB);
  });
});

describe("io and checksum", () => {
  test("patterns, bounds, and the place of a difference", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "8M");
    expect(
      await world.xvd(
        "io",
        "a.dsk",
        "-c",
        "write -P 0xab 64k 4k",
        "-c",
        "writez 66k 1k",
        "-c",
        "discard 1M 1M",
        "-c",
        "flush",
        "-c",
        "read -P 0xab 64k 2k",
        "-c",
        "read -P 0 66k 1k",
        "-c",
        "w 0 1",
      ),
    ).toBe(
      "wrote 4096 bytes at offset 65536\nzeroed 1024 bytes at offset 67584\ndiscarded 1048576 bytes at offset 1048576\nflushed\nread 2048 bytes at offset 65536, all 0xab\nread 1024 bytes at offset 67584, all 0x00\nwrote 1 bytes at offset 0\n",
    );
    const wrong = await world.run(["io", "a.dsk", "-c", "read -P 0xab 65k 2k"]);
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      'xvd io: cannot verify "a.dsk": byte 67584 is 0x00, expected 0xab (read -P 0xab 65k 2k)\n',
    ]);
    for (const [code, command] of [
      [1, "read 8M 1"],
      [2, "read -P 256 0 1"],
      [2, "fly 0 1"],
      [2, "write 0"],
      [2, "flush 0"],
      [2, "read 0 -1"],
    ] as const)
      expect((await failure(world, "io", "a.dsk", "-c", command)).code, command).toBe(code);
    expect((await failure(world, "io", "a.dsk", "-r", "-c", "write 0 1")).said).toMatch(/read-only/);
    expect((await failure(world, "io", "a.dsk")).code).toBe(2);
    const before = readFileSync(world.path("a.dsk"));
    expect(await world.json("io", "a.dsk", "-c", "write 0 4M", "--dry-run")).toMatchObject({
      "dry-run": true,
      commands: [{ verb: "write", offset: 0, length: 4 * MIB }],
    });
    expect(readFileSync(world.path("a.dsk")).equals(before)).toBe(true);

    const { digest } = await world.json<{ digest: string }>("checksum", "a.dsk");
    await world.xvd("create", "b.dsk", "8M", "--preallocation", "full");
    await world.xvd("convert", "a.dsk", "b.dsk", "--force");
    expect(await world.json("checksum", "b.dsk")).toEqual({ algorithm: "sha256-4m", digest, size: 8 * MIB });
    expect(await world.xvd("checksum", "b.dsk")).toBe(`sha256-4m:${digest}  b.dsk\n`);
  });
});

describe("clone", () => {
  test("count, force, dry run, modes", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "8M");
    await world.xvd("io", "a.dsk", "-c", "write -P 3 2M 64k");
    await world.xvd("clone", "a.dsk", "web{}.dsk", "--count", "3", "--verify");
    for (const n of [1, 2, 3])
      expect(readFileSync(world.path(`web${n}.dsk`)).equals(readFileSync(world.path("a.dsk")))).toBe(true);
    expect((await failure(world, "clone", "a.dsk", "web.dsk", "--count", "2")).code).toBe(2);
    expect((await failure(world, "clone", "a.dsk", "web1.dsk")).said).toMatch(/exists already/);
    expect((await failure(world, "clone", "a.dsk", "l.dsk", "--mode", "linked")).said).toMatch(/no backing file/);
    expect((await failure(world, "clone", "a.dsk", "b.dsk", "--mode", "fast")).code).toBe(2);
    await world.xvd("clone", "a.dsk", "dry.dsk", "--dry-run");
    expect(existsSync(world.path("dry.dsk"))).toBe(false);
    writeFileSync(world.path("web1.dsk"), "broken");
    expect(await world.json("clone", "a.dsk", "web1.dsk", "--force")).toMatchObject({
      clones: [{ target: "web1.dsk", size: 8 * MIB, ids: [] }],
    });
    expect(readFileSync(world.path("web1.dsk")).equals(readFileSync(world.path("a.dsk")))).toBe(true);
  });
});

describe.skipIf(!havePeer("mke2fs", "e2fsck", "mkfs.fat", "fsck.fat", "blkid", "sgdisk"))(
  "mkfs, new ids and growth on one disk",
  () => {
    test("every layer is accepted by its own tool", async () => {
      const world = xvdWorld();
      mkdirSync(world.path("tree"));
      writeFileSync(world.path("tree/hello"), "hello");
      await world.xvd("create", "a.dsk", "100M");
      await world.xvd("part", "init", "a.dsk", "gpt");
      for (const size of ["30M", "20M", "10M"]) await world.xvd("part", "add", "a.dsk", "--size", size);
      const made = await world.json<{ uuid: string }>("mkfs", "a.dsk#p1", "ext4", "--from", "tree", "--label", "data");
      await world.xvd("mkfs", "a.dsk#p2", "vfat", "--label", "EFI");
      await world.xvd("mkfs", "a.dsk#p3", "swap");
      expect((await failure(world, "mkfs", "a.dsk#p1", "ext4")).said).toMatch(
        /it holds ext4 "data", allowed with --force/,
      );
      expect((await failure(world, "mkfs", "a.dsk", "ext4")).said).toMatch(/partition table \(gpt\).*--force/);
      expect((await failure(world, "mkfs", "a.dsk#p1", "ufs")).code).toBe(2);
      await world.xvd("mkfs", "a.dsk#p1", "xfs", "--force", "--dry-run");

      const info = await world.json<{
        partitions: { number: number; filesystem: { type: string; uuid: string; label: string | null } }[];
      }>("info", "a.dsk");
      expect(info.partitions.map(({ number, filesystem }) => [number, filesystem.type, filesystem.label])).toEqual([
        [1, "ext4", "data"],
        [2, "vfat", "EFI"],
        [3, "swap", null],
      ]);
      expect(info.partitions[0]!.filesystem.uuid).toBe(made.uuid);
      expect(await world.json("info", "a.dsk#p1")).toMatchObject({
        "virtual-size": 30 * MIB,
        filesystem: { type: "ext4", uuid: made.uuid },
      });

      const { clones } = await world.json<{ clones: { ids: { what: string; old: string; new: string }[] }[] }>(
        "clone",
        "a.dsk",
        "b.dsk",
        "--new-ids",
        "--verify",
      );
      expect(clones[0]!.ids.map(({ what }) => what.replace(/ of partition \d/, ""))).toEqual([
        "GPT disk GUID",
        "GUID",
        "GUID",
        "GUID",
        "p1: ext4 UUID",
        "p2: FAT16 volume ID",
        "p3: swap UUID",
      ]);
      await world.xvd("resize", "b.dsk", "150M");
      expect(peer(world, "sgdisk", "-v", "b.dsk")).toContain("No problems found");
      for (const [part, check] of [
        ["p1", ["e2fsck", "-fn"]],
        ["p2", ["fsck.fat", "-n"]],
        ["p3", ["blkid", "-p"]],
      ] as const) {
        const image = `${part}.img`;
        await world.xvd("convert", `b.dsk#${part}`, image);
        peer(world, check[0]!, ...check.slice(1), image);
        const change = clones[0]!.ids.find(({ what }) => what.startsWith(`${part}:`))!;
        expect(peer(world, "blkid", "-p", "-s", "UUID", "-o", "value", image).trim()).toBe(change.new);
      }
      expect(readdirSync(world.dir).filter((name) => name.startsWith("."))).toEqual([]);
    });
  },
);
