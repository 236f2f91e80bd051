/** What reaches a terminal: nothing that an image could steer it with, bars that fit, and one line when the result cannot be written. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { textWidth } from "#src/bytes/printable.js";
import { barLine } from "#src/cli/progress.js";
import { havePeer } from "../support/peers.js";
import { XVD, xvdWorld } from "../support/xvd.js";

describe.skipIf(!existsSync("/dev/full"))("a result that cannot be written", () => {
  test.each([
    [["info", "a.dsk"], "xvd info", 1],
    [["map", "a.dsk", "--json"], null, 1],
    [["compare", "a.dsk", "a.dsk"], "xvd compare", 2], // 1 would say that they differ
    [["--version"], "xvd", 1],
    [["--help"], "xvd", 1],
  ])("%j", async (args, subject, code) => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "1M");
    const full = openSync("/dev/full", "w");
    const { status, stderr } = spawnSync(process.execPath, [XVD, ...args], {
      cwd: world.dir,
      env: { ...process.env, ...world.env },
      encoding: "utf8",
      stdio: ["ignore", full, "pipe"],
    });
    closeSync(full);
    expect(status).toBe(code);
    if (subject) expect(stderr).toBe(`${subject}: cannot write the result: no space left on the file system\n`);
    else expect(JSON.parse(stderr).error).toMatchObject({ code: "NO_SPACE" });
  });
});

/** C0 without the line feed, DEL and C1. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;

describe("names that an image holds", () => {
  const evil = "a\u001b]0;x\u0007\u001b[2J\nb";

  test("of partitions: listed, changed, dumped, described without a control character, and whole in JSON", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "16M");
    await world.xvd("part", "init", "a.dsk", "gpt");
    await world.xvd("part", "add", "a.dsk", "--size", "4M", "--name", evil);
    for (const args of [
      ["info", "a.dsk"],
      ["part", "list", "a.dsk"],
      ["part", "dump", "a.dsk"],
      ["part", "verify", "a.dsk"],
      ["part", "set", "a.dsk", "1", "--name", `${evil}c`, "--dry-run"],
      ["part", "rm", "a.dsk", "1", "--dry-run"],
    ])
      expect(await world.xvd(...args), args.join(" ")).not.toMatch(CONTROL);
    const { partitions } = await world.json<{ partitions: { name: string }[] }>("info", "a.dsk");
    expect(partitions[0]!.name).toBe(evil);
  });

  test.skipIf(!havePeer("mkswap"))("of file systems: made, described and refused", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "16M");
    await world.xvd("mkfs", "a.dsk", "swap", "--label", "LABELLABEL");
    const bytes = readFileSync(world.path("a.dsk"));
    bytes.write("\u001b[2J\u0007\nxyz", bytes.indexOf("LABELLABEL"), "latin1");
    writeFileSync(world.path("a.dsk"), bytes);
    expect(await world.xvd("info", "a.dsk")).toContain('swap "\ufffd[2J\ufffd\ufffdxyz');
    const { code, stderr } = await world.run(["mkfs", "a.dsk", "swap"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^xvd mkfs: .*\[2J.*--force\n$/);
    expect(stderr).not.toMatch(CONTROL);
    expect(await world.xvd("mkfs", "a.dsk", "swap", "--force", "--label", evil.slice(0, 8))).not.toMatch(CONTROL);
  });

  test("wide characters keep the columns and boxes of a listing straight", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "16M");
    await world.xvd("part", "init", "a.dsk", "gpt");
    await world.xvd("part", "add", "a.dsk", "--size", "7M", "--name", "根目录ルート");
    const lines = (await world.xvd("part", "list", "a.dsk")).trimEnd().split("\n").slice(-3);
    expect(new Set(lines.map(textWidth)).size).toBe(1);
    expect(lines[1]).toMatch(/^│1 根目录ルート +│/);
  });
});

describe("a progress bar", () => {
  test.each([200, 100, 80, 79, 60, 40, 20, 5])("stays on one line of %i columns", (columns) => {
    for (const title of [
      "clone",
      `clone /${"long/".repeat(30)}web1.dsk`,
      "clone 根目录根目录根目录根目录根目录根目录.dsk",
    ])
      for (const done of [0, 1, 1000 * 2 ** 20, 1023.9 * 2 ** 30, 2 ** 40])
        expect(textWidth(barLine(title, done, 2 ** 40, columns))).toBeLessThan(columns);
  });

  test("says what it is about, how far it is, and the end of a long name", () => {
    expect(barLine("clone", 2 ** 29, 2 ** 31, 80)).toBe(
      `clone  ${"█".repeat(8)}${"░".repeat(24)}  25%  512 MiB of 2 GiB`,
    );
    expect(barLine(`clone ${"x".repeat(99)}/web1.dsk`, 0, 2 ** 31, 80)).toMatch(
      /^…x+\/web1\.dsk {2}░+ {2}0% {2}0 B of 2 GiB$/,
    );
  });
});
