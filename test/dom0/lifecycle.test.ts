/** Domains as a whole: paused, shut down, rebooted, and guests that do not play along. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { serveNbd } from "#src/nbd/server.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { isFree, testHost, watched } from "./host-support.js";

const dir = tempDir();
let t: Awaited<ReturnType<typeof testHost>>;
/** Gives up early, for guests and disks that do not answer. */
let impatient: Awaited<ReturnType<typeof testHost>>;
beforeAll(async () => {
  [t, impatient] = await Promise.all([testHost(dir), testHost(dir, "i", 1500)]);
});
afterAll(() => Promise.all([t.host.stop(), impatient.host.stop()]));

async function domainWithDisk(name: string) {
  const disk = createRawDisk(dir, `${name}.dsk`, 4 << 20);
  const { domid } = await t.host.createDomain(name);
  await t.host.attach({ disk, domain: name });
  return { disk, domid };
}

const stateOf = async (name: string) => (await t.host.domains()).find((domain) => domain.name === name)?.state;

test("a paused domain is listed as it was, answers nobody, and goes on where it stopped", async () => {
  await domainWithDisk("paused");
  const client = await connectNbd(t.socket("paused"));
  await client.write(0, Buffer.alloc(4096, 1));
  const before = await t.host.domain("paused");
  await t.host.lifecycle.pause("paused");
  expect(await stateOf("paused")).toBe("paused");
  const during = await t.host.domain("paused");
  expect(during.devices[0]).toMatchObject({ size: 4 << 20, socket: before.devices[0]!.socket, state: "Connected" });
  const into = Buffer.alloc(4096);
  const read = watched(client.read(0, into));
  const newcomer = watched(connectNbd(t.socket("paused")));
  await t.host.domains(); // several turns of this thread, and a round trip to the backend
  expect([read.settled, newcomer.settled]).toEqual([false, false]);
  await t.host.lifecycle.pause("paused"); // again changes nothing
  await expect(t.host.attach({ disk: "x", domain: "paused" })).rejects.toMatchObject({
    message: "Cannot attach x to domain paused: it is paused, allowed after 'xvd domain unpause'",
  });
  await expect(t.host.lifecycle.shutdown("paused")).rejects.toMatchObject({ code: "DENIED" });
  await t.host.lifecycle.unpause("paused");
  await read.promise;
  expect(into.every((byte) => byte === 1)).toBe(true);
  await (await newcomer.promise).close();
  await client.close();
  await t.host.destroyDomain("paused");
});

test("a paused domain can be destroyed, and leaves nothing", async () => {
  const { disk, domid } = await domainWithDisk("gone");
  await t.host.lifecycle.pause("gone");
  await t.host.destroyDomain("gone");
  expect(await t.traces(domid)).toEqual([]);
  await isFree(disk);
});

test("shutdown: the guest acknowledges, closes its disks in order, and is gone with all that it had", async () => {
  const { disk, domid } = await domainWithDisk("polite");
  const states: string[] = [];
  const node = `/local/domain/${domid}/device/vbd/51712/state`;
  const unwatch = await t.store.watch(node, "states", async () => {
    states.push((await t.store.readOrNull(node)) ?? "gone");
  });
  await t.host.lifecycle.shutdown("polite");
  await unwatch();
  expect(states.slice(0, 3)).toEqual(["4", "5", "6"]);
  expect(await t.traces(domid)).toEqual([]);
  expect(await stateOf("polite")).toBeUndefined();
  await isFree(disk);
});

test("reboot: the same domain with its disks, under a new id", async () => {
  const { disk, domid } = await domainWithDisk("again");
  await t.host.lifecycle.shutdown("again", { reboot: true });
  const domain = await t.host.domain("again");
  expect(domain.domid).not.toBe(domid);
  expect(domain.devices).toMatchObject([{ vdev: "xvda", disk, state: "Connected", access: "rw" }]);
  expect(await t.traces(domid)).toEqual([]);
  const client = await connectNbd(t.socket("again"));
  await client.write(0, Buffer.alloc(512, 3));
  await client.close();
  await t.host.destroyDomain("again");
});

test("poweroff written by any client of the store ends the domain the same way", async () => {
  const { disk, domid } = await domainWithDisk("told");
  await t.store.write(`/local/domain/${domid}/control/shutdown`, "poweroff");
  await expect.poll(() => stateOf("told")).toBeUndefined();
  expect(await t.traces(domid)).toEqual([]);
  await isFree(disk);
});

test("suspend written by any client of the store: the domain is suspended, and unpause lets it go on", async () => {
  const { domid } = await domainWithDisk("asleep");
  await t.store.write(`/local/domain/${domid}/control/shutdown`, "suspend");
  await expect.poll(() => stateOf("asleep")).toBe("suspended");
  await expect(t.host.lifecycle.shutdown("asleep")).rejects.toMatchObject({ message: /it is suspended/ });
  await t.host.lifecycle.unpause("asleep");
  expect(await stateOf("asleep")).toBe("running");
  const client = await connectNbd(t.socket("asleep"));
  await client.write(0, Buffer.alloc(512, 3));
  await client.close();
  await t.host.destroyDomain("asleep");
});

test("an unknown word is left alone and told", async () => {
  const { domid } = await domainWithDisk("odd");
  await t.store.write(`/local/domain/${domid}/control/shutdown`, "dance");
  await expect.poll(() => t.errors.join()).toMatch(/odd: control\/shutdown: ignored "dance"/);
  expect(await stateOf("odd")).toBe("running");
  await t.host.destroyDomain("odd");
});

test("a guest that is deaf: the error names the step, the request is taken back, and nothing has changed", async () => {
  const { domid } = await impatient.host.createDomain("deaf", { blkfront: false });
  await expect(impatient.host.lifecycle.shutdown("deaf")).rejects.toMatchObject({
    code: "IO",
    message: expect.stringMatching(/its guest did not acknowledge "poweroff" in control\/shutdown within 1\.5 s/),
  });
  await expect(impatient.host.saves.save("deaf", { file: join(dir, "deaf.sav") })).rejects.toMatchObject({
    code: "IO",
  });
  expect(existsSync(join(dir, "deaf.sav"))).toBe(false);
  expect(await impatient.store.read(`/local/domain/${domid}/control/shutdown`)).toBe("");
  expect((await impatient.host.domain("deaf")).state).toBe("running");
  await impatient.host.destroyDomain("deaf");
});

test("a disk that does not answer: save says which end waits, and the domain goes on as soon as it answers", async () => {
  const device = memoryDevice(4 << 20);
  let answer: (() => void) | undefined;
  const write = device.write.bind(device);
  device.write = async (offset, data) => {
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return write(offset, data);
  };
  const path = join(dir, "slow.sock");
  const server = await serveNbd({ path, exports: new Map([["", { device }]]) });
  await impatient.host.createDomain("slow");
  await impatient.host.attach({ disk: server.uri(), domain: "slow" });
  const client = await connectNbd(impatient.socket("slow"));
  const written = client.write(0, Buffer.alloc(4096, 5));
  await expect.poll(() => answer).toBeDefined();
  await expect(impatient.host.saves.save("slow", { file: join(dir, "slow.sav") })).rejects.toMatchObject({
    code: "IO",
    message: expect.stringMatching(
      /acknowledged and did not finish within 1\.5 s, xvda has its frontend in state 5 and its backend in state 4/,
    ),
  });
  expect(existsSync(join(dir, "slow.sav"))).toBe(false);
  answer!();
  await written;
  await expect.poll(async () => (await impatient.host.domain("slow")).devices[0]?.state).toBe("Connected");
  const into = Buffer.alloc(4096);
  await client.read(0, into);
  expect(into.every((byte) => byte === 5)).toBe(true);
  await client.close();
  await impatient.host.destroyDomain("slow");
  await server.close();
});

test("a device of a domain that is being changed stays, also by force", async () => {
  const { disk } = await domainWithDisk("held");
  const saving = t.host.saves.save("held", { file: join(dir, "held.sav") });
  const detaching = t.host.detach("xvda", { domain: "held", force: true });
  await expect(detaching).rejects.toMatchObject({
    code: "DENIED",
    message: "Cannot detach xvda from domain held: it is being saved",
  });
  await saving;
  await isFree(disk);
});

test("two things at once are refused with what is being done; the host itself has no life to change", async () => {
  await domainWithDisk("busy");
  const first = t.host.lifecycle.shutdown("busy");
  await expect(t.host.lifecycle.pause("busy")).rejects.toMatchObject({
    message: "Cannot pause domain busy: it is being shut down",
  });
  await first;
  for (const change of [
    t.host.lifecycle.pause("0"),
    t.host.lifecycle.shutdown("Domain-0"),
    t.host.saves.save("0", { file: "/nowhere" }),
  ])
    await expect(change).rejects.toMatchObject({ code: "DENIED", message: expect.stringMatching(/Domain-0/) });
});
