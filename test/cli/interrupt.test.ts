/** Signals in the middle of a copy: the source stays, nothing half-written remains, one line tells. The disk is a slow one, served from here. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { type NbdServer, serveNbd } from "#src/nbd/server.js";
import { xvdWorld } from "../support/xvd.js";

const MIB = 1 << 20;
const world = xvdWorld();
let server: NbdServer;
let onRead: () => void = () => {};

beforeAll(async () => {
  const device = defineDevice({
    label: "slow",
    size: 512 * MIB,
    async read(_offset, into) {
      onRead();
      await new Promise((resolve) => setTimeout(resolve, 20));
      into.fill(1);
    },
  });
  server = await serveNbd({ exports: new Map([["", { device }]]), path: join(world.dir, "slow.sock") });
});

afterAll(() => server.close());

/** Runs the command and sends the signal when the disk is being read. */
async function interrupted(signal: NodeJS.Signals, ...args: string[]) {
  const stopping = new AbortController();
  let reads = 0;
  onRead = () => {
    if (++reads === 10) stopping.abort();
  };
  return world.run(args, { abort: stopping.signal, signal });
}

describe("a signal in the middle", () => {
  test.each([
    ["SIGINT", 130, "convert"],
    ["SIGTERM", 143, "clone"],
  ] as const)("%s ends with %d and leaves nothing: %s", async (signal, code, verb) => {
    const before = readdirSync(world.dir);
    const result = await interrupted(signal, verb, server.uri(), "target.dsk", "--verify");
    expect(result).toMatchObject({
      code,
      signal: null,
      stdout: "",
      stderr: `xvd: interrupted by ${signal}, nothing half-written is left\n`,
    });
    expect(readdirSync(world.dir)).toEqual(before);
  });

  test("a file that would have been replaced stays", async () => {
    writeFileSync(world.path("old.dsk"), "precious");
    expect((await interrupted("SIGINT", "clone", server.uri(), "old.dsk", "--force")).code).toBe(130);
    expect(readFileSync(world.path("old.dsk"), "utf8")).toBe("precious");
  });

  test("readers stop too", async () => {
    expect((await interrupted("SIGTERM", "checksum", server.uri())).code).toBe(143);
    expect((await interrupted("SIGINT", "compare", server.uri(), server.uri())).code).toBe(130);
    expect((await interrupted("SIGINT", "io", server.uri(), "-c", "read 0 512M")).code).toBe(130);
  });
});
