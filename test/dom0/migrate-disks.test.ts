/** Migration with copied disks: the copy is made while the guest writes, and has every acknowledged write. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { isFree } from "./host-support.js";
import { counters, move, SIZE, type TestDaemon, twoHosts, written } from "./two-hosts.js";

let a: TestDaemon;
let b: TestDaemon;
let disk: string;
beforeEach(async () => {
  ({ a, b, disk } = await twoHosts());
});
afterEach(async () => {
  await a.stop();
  await b.stop();
});

describe("with its disks", () => {
  const copy = () => join(b.run, "images", "web.dsk");

  test("under a load: the copy has every acknowledged write, the old image stays as it was", async () => {
    const client = await connectNbd(a.socket("web"));
    await client.write(8 << 20, Buffer.alloc(1 << 20, 0xab));
    const load = counters(client);
    await load.progress();
    const result = await move(a, b, { withDisks: true });
    expect(result.disks).toEqual([{ vdev: "xvda", from: disk, to: copy(), copied: true }]);
    const left = readFileSync(disk);
    await isFree(disk);
    await load.progress();
    await load.stop();
    await load.verify(client);
    const into = Buffer.alloc(1 << 20);
    await client.read(8 << 20, into);
    expect(into.every((byte) => byte === 0xab)).toBe(true);
    await client.close();
    await written(copy(), load.verify);
    expect(readFileSync(disk).equals(left)).toBe(true);
    expect((await b.host.domain("web")).devices).toMatchObject([{ disk: copy() }]);
    expect(statSync(copy()).blocks * 512).toBeLessThan(4 << 20); // holes stay holes
  });

  test("a file of that name there is refused without --force, and replaced with it", async () => {
    mkdirSync(join(b.run, "images"));
    writeFileSync(copy(), "mine");
    await expect(move(a, b, { withDisks: true })).rejects.toThrow(/exists already, allowed with --force/);
    expect(readFileSync(copy(), "utf8")).toBe("mine");
    expect((await a.host.domain("web")).state).toBe("running");
    await move(a, b, { withDisks: true, force: true });
    expect(statSync(copy()).size).toBe(SIZE);
  });

  test("given up in the middle, or refused over there: no copy is left", async () => {
    b.state.intercept = async (name) => (name === "PUT arrivals" ? "swallow" : "answer");
    await expect(move(a, b, { withDisks: true })).rejects.toThrow(/Cannot reach Dom0/);
    expect(existsSync(copy())).toBe(false);
    const controller = new AbortController();
    b.state.intercept = async () => {
      controller.abort(new Error("interrupted"));
      return "answer";
    };
    const moving = a.host.migrations.migrate("web", { to: b.run, withDisks: true }, controller.signal);
    await expect(moving).rejects.toThrow(/interrupted/);
    expect(existsSync(copy())).toBe(false);
    expect((await a.host.domain("web")).devices).toMatchObject([{ state: "Connected", disk }]);
  });
});
