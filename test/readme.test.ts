/** The README's first example prints what the README says, but for what is new each time. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { havePeer } from "./support/peers.js";
import { xvdWorld } from "./support/xvd.js";

/** Commands of the block that begins with `first`, each with its output. */
function example(first: string): { words: string[]; output: string }[] {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const block = readme.split("```\n").find((part) => part.startsWith(`$ ${first}`));
  return (block ?? "")
    .split(/^\$ xvd /m)
    .slice(1)
    .map((part) => {
      const [command = "", ...output] = part.split("\n");
      return { words: command.split(" "), output: output.join("\n") };
    });
}

/** Identities are random, and how much is used depends on the folder. */
const known = (text: string) =>
  text.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi, "UUID").replace(/[\d.]+ MiB used/, "some MiB used");

test.skipIf(!havePeer("mke2fs"))("making a disk", async () => {
  const world = xvdWorld();
  mkdirSync(world.path("rootfs"));
  writeFileSync(world.path("rootfs/hello"), new Uint8Array(2_000_000));
  const commands = example("xvd create guest.dsk 2G");
  expect(commands.length).toBeGreaterThan(5);
  for (const { words, output } of commands) expect(known(await world.xvd(...words))).toBe(known(output));
});
