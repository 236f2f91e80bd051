/** What a person who is new to it meets: help, wrong words, and what errors and results call things. */
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { xvdWorld } from "../support/xvd.js";

const MIB = 1 << 20;

describe("help and words that are no command", () => {
  const world = xvdWorld();

  test("promises nothing that there is no command for", async () => {
    const help = await world.xvd("--help");
    expect(help).not.toMatch(/back up|^ *(backup|restore) /m); // vgcfgrestore and domain restore are there
    expect(await world.xvd("help")).toBe(help);
  });

  test.each([["create"], ["part", "list"], ["part"]])("help %s %s is its --help", async (...words) => {
    const help = await world.xvd(...words, "--help");
    expect(help).toContain(`Usage: xvd ${words.join(" ")} `);
    expect(await world.xvd("help", ...words)).toBe(help);
  });

  test.each([
    [["nonsense"], "xvd nonsense: there is no command 'nonsense'; see 'xvd --help'"],
    [["nonsense", "--help"], "xvd nonsense: there is no command 'nonsense'; see 'xvd --help'"],
    [["help", "nonsense"], "xvd nonsense: there is no command 'nonsense'; see 'xvd --help'"],
    [
      ["resizes", "a.dsk", "--help"],
      "xvd resizes: there is no command 'resizes', did you mean 'resize'; see 'xvd --help'",
    ],
    [["part", "fly", "--help"], "xvd part fly: there is no command 'part fly'; see 'xvd part --help'"],
    [["toString"], "xvd toString: there is no command 'toString'; see 'xvd --help'"],
    [
      ["domain", "create", "a", "b"],
      "xvd domain create: too many arguments for 'create'. Expected 1 argument but got 2; see 'xvd domain create --help'",
    ],
  ])("%j is refused in one line with exit code 2", async (args, said) => {
    expect(await world.run(args)).toEqual({ code: 2, signal: null, stdout: "", stderr: `${said}\n` });
  });

  test.each([
    [["nonsense"]],
    [["create", "a.dsk"]],
    [["create", "a.dsk", "12Q"]],
    [["create", "", "1M"]],
    [["clone", "a.dsk", "b.dsk", "--mode", "fast"]],
    [["part", "rm", "a.dsk", "one"]],
    [["io", "a.dsk", "-c", "fly"]],
  ])("%j has the code USAGE beside exit code 2", async (args) => {
    const { code, stderr } = await world.run([...args, "--json"]);
    expect([code, JSON.parse(stderr).error.code]).toEqual([2, "USAGE"]);
  });

  test("a failure of compare has exit code 2 and its own code", async () => {
    const { code, stderr } = await world.run(["compare", "a.dsk", "b.dsk", "--json"]);
    expect([code, JSON.parse(stderr).error.code]).toEqual([2, "NOT_FOUND"]);
  });
});

describe("create", () => {
  test("an empty name is named as that", async () => {
    const { code, stderr } = await xvdWorld().run(["create", "", "1M"]);
    expect([code, stderr]).toEqual([
      2,
      'xvd create: cannot create "": its name is empty, allowed is the name of a file\n',
    ]);
  });

  test("a fraction of a unit is rounded up to sectors", async () => {
    const world = xvdWorld();
    await world.xvd("create", "a.dsk", "1.0000001G");
    expect(statSync(world.path("a.dsk")).size).toBe(2 ** 30 + 512);
  });

  test("a dry run tells what would be, refuses what would be refused, and leaves everything", async () => {
    const world = xvdWorld();
    expect(await world.xvd("create", "a.dsk", "1M", "--dry-run")).toMatch(/^would create a\.dsk: raw, 1 MiB/);
    writeFileSync(world.path("a.dsk"), "old");
    expect(await world.xvd("create", "a.dsk", "1M", "--force", "--dry-run")).toMatch(/^would replace a\.dsk/);
    expect(await world.json("create", "a.dsk", "1M", "--force", "--dry-run", "--preallocation", "full")).toEqual({
      filename: "a.dsk",
      format: "raw",
      "virtual-size": MIB,
      "dry-run": true,
    });
    expect((await world.run(["create", "a.dsk", "1M", "--dry-run"])).stderr).toMatch(
      /exists already, allowed with --force/,
    );
    expect((await world.run(["create", "b.dsk", "8000T", "--dry-run"])).stderr).toMatch(/limit on file sizes allows/);
    expect([readdirSync(world.dir), statSync(world.path("a.dsk")).size]).toEqual([["a.dsk"], 3]);
  });
});

test("sizes that look the same are told in bytes", async () => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "200M");
  expect(await world.xvd("resize", "a.dsk", "+1")).toBe("a.dsk: 209715200 bytes became 209715712 bytes\n");
  expect(await world.xvd("resize", "a.dsk", "300M")).toBe("a.dsk: 200 MiB became 300 MiB (314572800 bytes)\n");
});

test("a partition has one name, in errors before and after it is opened", async () => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "16M");
  expect((await world.run(["info", "a.dsk#p1"])).stderr).toMatch(/^xvd info: cannot open "a\.dsk#p1": /);
  await world.xvd("part", "init", "a.dsk", "gpt");
  await world.xvd("part", "add", "a.dsk", "--size", "4M");
  expect((await world.run(["io", "a.dsk#p1", "-c", "read 4M 1"])).stderr).toMatch(/^xvd io: cannot read "a\.dsk#p1": /);
});
