/** `xvd io` takes qemu-io's commands as qemu-io does, and shows the same. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { parseIoCommand, runIoCommand } from "#src/cli/io-commands.js";
import { havePeer } from "../support/peers.js";
import { xvdWorld } from "../support/xvd.js";

describe("commands", () => {
  test.each([
    ["write 0x1000 0X200", { verb: "write", offset: 4096, length: 512, pattern: null, durable: false }],
    ["write -P0x42 4k 1", { verb: "write", offset: 4096, pattern: 0x42 }],
    ["write -fqP 7 4k 1", { verb: "write", pattern: 7, durable: true }],
    ["write -z -u 0 1k", { verb: "writez" }],
    ["write -zuf 0 1k", { verb: "writez", durable: true }],
    ["writez -u 0 1k", { verb: "writez" }],
    ["read -v -P 1 0 1k", { verb: "read", dump: true, pattern: 1 }],
    ["r 0 1k", { verb: "read", dump: false }],
  ])("%s", (text, wanted) => expect(parseIoCommand(text)).toMatchObject(wanted));

  test.each([
    ["write -u 0 1k", /-u gives back space/],
    ["read -f 0 1k", /"-f" is no option of read, allowed -P -v -q/],
    ["read -vz 0 1k", /"-z" is no option of read/],
    ["write -v 0 1k", /"-v" is no option of write/],
    ["discard -P 1 0 1k", /"-P" is no option of discard/],
    ["write -zP 1 0 1k", /zeros have no pattern/],
    ["write -P", /the pattern is ""/],
    ["read - 1k", /"-" is no option of read/],
    ["read 0x 1k", /Cannot read offset "0x"/],
    ["read 0xffffffffffffffff 1k", /the offset is too large/],
    ["read -1 1k", /"-1" is no option/],
  ])("%s is wrong usage", (text, said) => {
    expect(() => parseIoCommand(text)).toThrow(said);
    expect(() => parseIoCommand(text)).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ usage: true }) }),
    );
  });

  test("-f flushes after the write, and only then", async () => {
    const done: string[] = [];
    const device: BlockDevice = defineDevice({
      label: "watched",
      size: 4096,
      read: async (_, into) => void into.fill(0),
      write: async () => void done.push("write"),
      zero: async () => void done.push("zero"),
      flush: async () => void done.push("flush"),
    });
    const context = { signal: new AbortController().signal, show: () => {} };
    for (const text of ["write 0 1k", "write -f 0 1k", "writez 0 1k", "write -zf 0 1k"])
      await runIoCommand(device, parseIoCommand(text), context);
    expect(done).toEqual(["write", "write", "flush", "zero", "zero", "flush"]);
  });
});

test.skipIf(!havePeer("qemu-io"))("a dump is qemu-io's, and so is what is written", async () => {
  const world = xvdWorld();
  for (const name of ["ours.img", "theirs.img"])
    writeFileSync(
      world.path(name),
      Uint8Array.from({ length: 8192 }, (_, i) => i % 251),
    );
  const commands = [
    "write -P 65 0x1000 0x20",
    "write -fP 0x42 0x1008 1",
    "write -z -u 0x200 0x400",
    "read -v 0x1f0 40",
    "read -v 4090 48",
  ];
  const args = commands.flatMap((command) => ["-c", command]);
  const theirs = execFileSync("qemu-io", ["-f", "raw", ...args, "theirs.img"], { cwd: world.dir, encoding: "utf8" });
  const dump = (text: string) => text.split("\n").filter((line) => /^[0-9a-f]{8}: /.test(line));
  const ours = await world.xvd("io", "ours.img", ...args);
  expect(dump(ours)).toEqual(dump(theirs));
  expect(dump(ours).length).toBe(6);
  expect(Buffer.compare(readFileSync(world.path("ours.img")), readFileSync(world.path("theirs.img")))).toBe(0);
  expect(await world.json("io", "ours.img", "-c", "read -v 0 16")).toMatchObject({ commands: [{ verb: "read" }] });
});
