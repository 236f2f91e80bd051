/** docs/lvm.md: every command of the guide, in its order, prints what the guide says but for what is new each time. */
import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { xvdWorld } from "../support/xvd.js";

interface Step {
  readonly command: string;
  readonly output: string;
}

function steps(): Step[] {
  const page = readFileSync(new URL("../../docs/lvm.md", import.meta.url), "utf8");
  const blocks = page.split("```\n").filter((part) => part.startsWith("$ "));
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = "", ...output] = part.split("\n");
        return { command, output: output.join("\n") };
      }),
  );
}

/** Identities are random; lengths and places of texts depend on the host's name, copied bytes on its file system. */
const known = (text: string) =>
  text
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi, "UUID")
    .replace(/\w{6}(-\w{4}){5}-\w{6}/g, "LVM UUID")
    .replace(/ at \d+ length \d+ crc 0x[0-9a-f]+/g, " at PLACE")
    .replace(/ byte \d{4,5} ?/g, " byte PLACE ")
    .replace(/[\d.]+ MiB of data/, "some MiB of data")
    .replace(/ *→ */g, " → ")
    .replace(/[ \t]+$/gm, "")
    .trimEnd();

test.skipIf(!havePeer("mke2fs"))("the guide", async () => {
  const world = xvdWorld();
  mkdirSync(world.path("rootfs"));
  writeFileSync(world.path("rootfs/hosts"), "127.0.0.1 guest\n");
  mkdirSync(world.path("bin"));
  const script = fileURLToPath(new URL("../../bin/xvd.js", import.meta.url));
  writeFileSync(
    world.path("bin/xvd"),
    `#!/bin/sh\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(script)} "$@"\n`,
  );
  chmodSync(world.path("bin/xvd"), 0o755);
  const env = { ...process.env, ...world.env, PATH: `${world.path("bin")}:${process.env.PATH}` };
  const run = (command: string) =>
    new Promise<string>((resolve) => {
      execFile("sh", ["-c", `exec 2>&1; ${command}`], { cwd: world.dir, env }, (_error, stdout) => resolve(stdout));
    });
  const all = steps();
  expect(all.length).toBeGreaterThan(20);
  for (const { command, output } of all) expect(known(await run(command)), command).toBe(known(output));
});
