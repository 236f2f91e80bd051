/** Migrations that fail: before the commit nothing is lost, after it nothing is done twice. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Dom0Client } from "#src/dom0/client.js";
import { recordFile } from "#src/dom0/places.js";
import { connectNbd } from "#src/nbd/client.js";
import { openDisk } from "#src/stack/disk.js";
import { counters, move, type TestDaemon, twoHosts, written } from "./two-hosts.js";

let dir: string;
let a: TestDaemon;
let b: TestDaemon;
let disk: string;
beforeEach(async () => {
  ({ dir, a, b, disk } = await twoHosts());
});
afterEach(async () => {
  await a.stop();
  await b.stop();
});

describe("before the other host has it, every failure lets the domain go on", () => {
  async function staysAtA(what: RegExp, during: () => Promise<unknown> = () => move(a, b)): Promise<void> {
    const client = await connectNbd(a.socket("web"));
    const load = counters(client, 60);
    await load.progress();
    await expect(during()).rejects.toThrow(what);
    expect((await a.host.domain("web")).state).toBe("running");
    await load.progress(); // through the same connection
    await load.stop();
    await load.verify(client);
    await client.close();
    await written(disk, load.verify);
    b.state.intercept = async () => "answer";
    expect((await move(a, b)).domain).toBe("web"); // and it can still move
    expect(await b.names()).toEqual(["web"]);
  }

  test("there is no such host, it is this one, or it has such a domain", async () => {
    await expect(a.host.migrations.migrate("web", { to: join(dir, "nowhere") })).rejects.toThrow(/none runs there/);
    await expect(move(a, a)).rejects.toThrow(/is where it runs/);
    await b.host.createDomain("web");
    await expect(move(a, b)).rejects.toThrow("Cannot create domain web: it exists already");
    expect((await a.host.domain("web")).state).toBe("running");
  });

  test("somebody else takes the disk between the two", async () => {
    b.state.intercept = async (name, response) => {
      if (name !== "PUT arrivals") return "answer";
      const holder = await openDisk(disk, { writable: true });
      response.once("finish", () => void holder.close());
      return "answer";
    };
    await staysAtA(/Cannot create domain web: disk 1 of 1.*in use/);
  });

  test("the state never reaches it", async () => {
    const calls: string[] = [];
    b.state.intercept = async (name) => {
      calls.push(name);
      return name === "PUT arrivals" ? "swallow" : "answer";
    };
    await staysAtA(/Cannot reach Dom0/);
    expect(calls).toContain("DELETE arrivals"); // it was told not to begin
  });

  test("it dies with the state in its hands", async () => {
    b.state.intercept = async (name) => {
      if (name !== "PUT arrivals") return "answer";
      b.server.close();
      return "swallow";
    };
    const client = await connectNbd(a.socket("web"));
    const load = counters(client, 60);
    await load.progress();
    await expect(move(a, b)).rejects.toThrow(/Cannot reach Dom0/);
    await load.progress();
    await load.stop();
    await client.close();
    await written(disk, load.verify);
  });

  test("the command is interrupted", async () => {
    const controller = new AbortController();
    const connected = () => new Promise<number>((resolve) => a.server.getConnections((_, count) => resolve(count)));
    b.state.intercept = async (name) => {
      if (name !== "POST arrivals") return "answer";
      controller.abort(new Error("interrupted"));
      await expect.poll(connected).toBe(0); // the daemon has seen its client go
      return "answer";
    };
    await staysAtA(/abort/, async () => {
      const command = new Dom0Client({ paths: a.paths }).migrate("web", { to: b.run }, controller.signal);
      await command.finally(() => expect.poll(() => a.host.migrations.progress("web")).toBeNull()); // and the daemon is done
    });
  });
});

test("an answer that is lost does not make two of it: the other host is asked", async () => {
  const client = await connectNbd(a.socket("web"));
  const load = counters(client, 60);
  await load.progress();
  b.state.intercept = async (name) => (name === "PUT arrivals" ? "answered, not sent" : "answer");
  const result = await move(a, b);
  expect(await b.host.domain("web")).toMatchObject({ domid: result.domid, state: "running" });
  expect(await a.names()).toEqual([]);
  await load.progress();
  await load.stop();
  await load.verify(client);
  await client.close();
  await written(disk, load.verify);
});

test("a state that comes late, after it was called off, is not taken", async () => {
  expect(await b.host.arrivals.callOff("late")).toBeNull();
  await expect(b.host.arrivals.take("late", new Uint8Array(0))).rejects.toMatchObject({ code: "DENIED" });
  await expect(b.host.arrivals.take("bad", new Uint8Array(100))).rejects.toMatchObject({ code: "CORRUPT" });
  expect(await b.host.arrivals.callOff("bad")).toBeNull();
  expect(await b.names()).toEqual([]);
});

test("a home where several daemons run: one must be named", async () => {
  writeFileSync(recordFile({ home: b.run, run: a.run }), JSON.stringify({ run: a.run }));
  await expect(move(a, b)).rejects.toThrow(/several run there .*name one with --to-run/);
  await move(a, b, { toRun: b.run });
  expect(await b.names()).toEqual(["web"]);
});
