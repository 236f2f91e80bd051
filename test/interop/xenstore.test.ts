/** Debian's xenstore clients, unchanged, on our socket: every command they have, what they print and how they exit. */
import { type ExecFileException, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveXenstoreSocket, type XenstoreSocket } from "#src/xen/platform/xenstore-socket.js";
import { createBootTree } from "#src/xen/xenstore/boot-tree.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { havePeer, peerPath } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { RawClient } from "../xen/xenstore/support.js";

const CLIENTS = ["ls", "read", "write", "rm", "exists", "list", "chmod", "watch"].map((name) => `xenstore-${name}`);

describe.skipIf(!havePeer(...CLIENTS))("xenstore-utils", () => {
  let xenstored: Xenstored;
  let served: XenstoreSocket;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    xenstored = new Xenstored();
    createBootTree(xenstored);
    served = await serveXenstoreSocket(xenstored, join(tempDir(), "socket"));
    env = { ...process.env, XENSTORED_PATH: served.path };
  });

  afterAll(async () => {
    expect(xenstored.store.tree.inconsistencies()).toEqual([]);
    await served.close();
  });

  /** Exit code and output of `xenstore-<name>`. */
  function run(name: string, ...args: string[]): Promise<{ code: number; out: string }> {
    return new Promise((resolve) => {
      execFile(peerPath(`xenstore-${name}`)!, args, { env }, (error: ExecFileException | null, stdout, stderr) =>
        resolve({ code: error ? Number(error.code) : 0, out: error ? stderr : stdout }),
      );
    });
  }

  const done = { code: 0, out: "" };

  test("write, read, list, exists, rm", async () => {
    expect(await run("write", "/a/b", "hello", "/a/c", "two words")).toEqual(done);
    expect(await run("read", "/a/b")).toEqual({ code: 0, out: "hello\n" });
    expect(await run("read", "-p", "/a/b", "/a/c")).toEqual({ code: 0, out: "/a/b: hello\n/a/c: two words\n" });
    expect(await run("list", "/a")).toEqual({ code: 0, out: "b\nc\n" });
    expect(await run("list", "-p", "/a")).toEqual({ code: 0, out: "/a/b\n/a/c\n" });
    expect(await run("exists", "/a/b", "/a")).toEqual(done);
    expect((await run("exists", "/a/none")).code).toBe(1);
    expect(await run("rm", "/a/b")).toEqual(done);
    expect((await run("read", "/a/b")).code).not.toBe(0);
    expect(await run("rm", "/a")).toEqual(done);
    expect((await run("exists", "/a")).code).toBe(1);
  });

  test("rm -t takes the directories that have become empty", async () => {
    await run("write", "/t/u/v", "1");
    expect(await run("rm", "-t", "/t/u/v")).toEqual(done);
    expect((await run("exists", "/t")).code).toBe(1);
  });

  test("values keep every byte that the tools can carry", async () => {
    const value = "äöü \" ' \t 100%";
    await run("write", "/bytes", `${value}\\x07\\\\`); // the tool's own escapes
    expect(await run("read", "-R", "/bytes")).toEqual({ code: 0, out: `${value}\x07\\` });
    await run("rm", "/bytes");
  });

  test("relative paths start at Dom0's home", async () => {
    await run("write", "name", "Domain-0", "domid", "0");
    expect(await run("read", "/local/domain/0/name")).toEqual({ code: 0, out: "Domain-0\n" });
    expect((await run("ls", "/local/domain/0")).out).toBe('name = "Domain-0"\ndomid = "0"\n');
  });

  test("ls, with permissions, of everything", async () => {
    await run("write", "/p/q", "1");
    expect(await run("chmod", "/p", "n0", "r5")).toEqual(done);
    expect(await run("chmod", "-r", "/p/q", "b3", "n0", "w7")).toEqual(done);
    const { out } = await run("ls", "-p", "/");
    expect(out).toMatch(/^p = ""[ .]+\(n0,r5\)\n q = "1"[ .]+\(b3,n0,w7\)$/m);
    expect(out).toMatch(/^tool = ""[ .]+\(n0\)\n xenstored = ""[ .]+\(n0\)$/m);
    expect((await run("ls", "-f", "/p")).out).toBe('/p/q = "1"\n');
    await run("rm", "/p");
  });

  test("a listing too long for one message", async () => {
    const dom0 = new RawClient(xenstored, 0);
    const names = Array.from({ length: 1000 }, (_, i) => `child-${i}`);
    for (const name of names) dom0.mkdir(`/many/${name}`);
    expect((await run("list", "/many")).out.trimEnd().split("\n")).toEqual(names);
    await run("rm", "/many");
  });

  test("ls walks directories of thousands of nodes, in parts where a message cannot hold their names", async () => {
    const dom0 = new RawClient(xenstored, 0);
    const names = Array.from({ length: 1200 }, (_, i) => `a-rather-long-name-${i}`);
    for (const name of names) dom0.write(`/wide/dir/${name}`, "v");
    expect(dom0.list("/wide/dir")).toBe("E2BIG");
    const { out } = await run("ls", "-f", "/wide");
    expect(out.trimEnd().split("\n")).toEqual(['/wide/dir = ""', ...names.map((name) => `/wide/dir/${name} = "v"`)]);
    expect((await run("list", "-p", "/wide/dir")).out.split("\n")).toHaveLength(1201);
    expect(await run("rm", "/wide")).toEqual(done);
  });

  test("several pairs are written at once or not at all", async () => {
    const dom0 = new RawClient(xenstored, 0);
    dom0.watch("/pairs", "t");
    dom0.events();
    // The second path is malformed: nothing of the first is seen.
    expect((await run("write", "/pairs/a", "1", "/pairs//b", "2")).code).not.toBe(0);
    expect(dom0.events()).toEqual([]);
    expect(await run("write", "/pairs/a", "1", "/pairs/b", "2", "/pairs/c", "3")).toEqual(done);
    expect(dom0.events()).toHaveLength(3);
    expect(await run("read", "-p", "/pairs/a", "/pairs/b", "/pairs/c")).toEqual({
      code: 0,
      out: "/pairs/a: 1\n/pairs/b: 2\n/pairs/c: 3\n",
    });
    expect((await run("read", "/pairs/a", "/pairs/none")).code).not.toBe(0);
    expect(await run("rm", "/pairs/a", "/pairs/b")).toEqual(done);
    expect((await run("list", "/pairs")).out).toBe("c\n");
    await run("rm", "/pairs");
  });

  test("a conflict is answered EAGAIN, and the tool goes round until it is through", async () => {
    // Whenever the tool has begun its transaction and read or written, somebody else changes the same node.
    const dom0 = new RawClient(xenstored, 0);
    dom0.write("/busy/a", "0");
    let rounds = 0;
    const { store } = xenstored;
    const commit = store.commit.bind(store);
    store.commit = (caller, transaction) => {
      if (rounds++ < 5) dom0.write("/busy/a", `in between ${rounds}`);
      commit(caller, transaction);
    };
    try {
      expect(await run("write", "/busy/a", "mine", "/busy/b", "mine too")).toEqual(done);
    } finally {
      store.commit = commit;
    }
    expect(rounds).toBe(6);
    expect((await run("ls", "-f", "/busy")).out).toBe('/busy/a = "mine"\n/busy/b = "mine too"\n');
    await run("rm", "/busy");
  });

  test("chmod -u sets the nodes above, too", async () => {
    await run("write", "/perms/x/y", "1");
    expect(await run("chmod", "-u", "/perms/x/y", "r0", "b9")).toEqual(done);
    for (const path of ["/perms", "/perms/x", "/perms/x/y"])
      expect(new RawClient(xenstored, 0).ask("GET_PERMS", [path])).toBe("r0|b9");
    await run("chmod", "-u", "/perms/x/y", "n0");
    await run("rm", "/perms");
  });

  test("watch prints the first event and the changes", async () => {
    const watcher = spawn(peerPath("xenstore-watch")!, ["-n", "4", "/w", "@introduceDomain"], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let out = "";
    const printed = new Promise<void>((resolve) => {
      watcher.stdout.on("data", (bytes) => {
        out += bytes;
        if (out.split("\n").length >= 3) resolve();
      });
    });
    const exited = once(watcher, "exit");
    await printed;
    await run("write", "/w/x", "1");
    xenstored.introduce(9);
    expect(await exited).toEqual([0, null]);
    expect(out.trimEnd().split("\n")).toEqual(["/w", "@introduceDomain", "/w/x", "@introduceDomain"]);
  });

  test("twenty writers at one time, all with transactions on the same directory, lose nothing", async () => {
    // xenstore-write with two pairs uses a transaction, and repeats it on EAGAIN.
    const writes = Array.from({ length: 20 }, (_, i) => run("write", `/race/a${i}`, "1", `/race/b${i}`, "2"));
    expect((await Promise.all(writes)).every(({ code }) => code === 0)).toBe(true);
    expect((await run("list", "/race")).out.trimEnd().split("\n")).toHaveLength(40);
    await run("rm", "/race");
  });

  test("what is wrong is said, by exit code and message", async () => {
    expect((await run("read", "/none")).code).not.toBe(0);
    expect((await run("write", "/bad//path", "1")).code).not.toBe(0);
    expect((await run("list", "/none")).code).not.toBe(0);
    expect((await run("chmod", "/none", "r0")).code).not.toBe(0);
  });

  test("every client is gone when its command has ended", async () => {
    await run("read", "/tool");
    while (served.clients > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(served.clients).toBe(0);
  });
});
