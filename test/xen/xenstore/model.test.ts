/**
 * Random work of Dom0 and two guests, with transactions, watches, deaths and quota failures: every reply, every event and
 * every node as the model says, and the store sound after each step.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Xenstored } from "#src/xen/xenstore/server.js";
import { Model, type ModelChange, type Step } from "./model.js";
import { guests, RawClient } from "./support.js";

const NODE_LIMIT = 6;

const path = fc
  .tuple(
    fc.constantFrom("/local/domain/1/data", "/local/domain/2/data", "/s", "/s", "/local/domain/1"),
    fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 3 }),
  )
  .map(([root, names]) => [root, ...names].join("/"));
const permission = fc
  .tuple(fc.constantFrom("n", "r", "w", "b"), fc.constantFrom(0, 1, 2))
  .map(([letter, domid]) => `${letter}${domid}`);
const step: fc.Arbitrary<Step> = fc.record({
  verb: fc.constantFrom("READ", "WRITE", "WRITE", "WRITE", "MKDIR", "RM", "DIRECTORY", "GET_PERMS", "SET_PERMS"),
  path,
  value: fc.constantFrom("", "x", "yy"),
  permissions: fc.array(permission, { minLength: 1, maxLength: 6 }),
});

type Act =
  | { readonly act: "ask"; readonly who: number; readonly slot: number; readonly step: Step }
  /** Begins a transaction, or ends it when there is one. */
  | { readonly act: "commit" | "abort"; readonly who: number; readonly slot: number }
  | { readonly act: "die"; readonly who: number; readonly slot: number }
  /** Sets a watch, or takes it back when there is one. */
  | { readonly act: "watch"; readonly who: number; readonly slot: number; readonly path: string };
const who = fc.constantFrom(0, 1, 1, 2);
const slot = fc.constantFrom(0, 1, 1, 2); // 0: no transaction
const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ act: fc.constant("ask" as const), who, slot, step }) },
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constantFrom("commit" as const, "commit" as const, "commit" as const, "abort" as const),
      who,
      slot,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      act: fc.constant("watch" as const),
      who,
      slot,
      path: fc.constantFrom("/", "/s", "/s/a", "/s/a/b", "/local/domain/1/data", "/local/domain/2/data/a"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constant("die" as const), who: fc.constantFrom(1, 2), slot }) },
);

interface OpenTransaction {
  readonly id: number;
  readonly version: number;
  readonly steps: { step: Step; reply: string }[];
  doomed: boolean;
  outdated: boolean;
}

class Comparison {
  readonly xenstored: Xenstored;
  readonly clients: RawClient[];
  readonly transactions = new Map<string, OpenTransaction>();
  /** Watched paths of each client. */
  readonly watches = [new Set<string>(), new Set<string>(), new Set<string>()];
  model = new Model();
  heard = 0;
  commits = { OK: 0, EAGAIN: 0, ENOMEM: 0, ENOSPC: 0 };

  constructor() {
    const { xenstored, dom0, guest1, guest2 } = guests({ quotas: { nodes: NODE_LIMIT } });
    this.xenstored = xenstored;
    this.clients = [dom0, guest1, guest2];
    const start = (verb: Step["verb"], path: string, ...permissions: string[]) =>
      this.model.perform(0, { verb, path, value: "", permissions }, NODE_LIMIT);
    for (const domid of [1, 2]) {
      start("MKDIR", `/local/domain/${domid}/data`);
      start("SET_PERMS", `/local/domain/${domid}`, "n0", `r${domid}`);
      start("SET_PERMS", `/local/domain/${domid}/data`, `n${domid}`);
    }
    this.run({ act: "ask", who: 0, slot: 0, step: { verb: "MKDIR", path: "/s", value: "", permissions: [] } });
    this.run({ act: "ask", who: 0, slot: 0, step: { verb: "SET_PERMS", path: "/s", value: "", permissions: ["b0"] } });
  }

  run(one: Act): void {
    const key = `${one.who}/${one.slot}`;
    const open = this.transactions.get(key);
    if (one.act === "die") this.#die(one.who);
    else if (one.act === "watch") this.#watch(one.who, one.path);
    else if (one.act === "ask") this.#ask(one.who, one.step, open);
    else if (!open) {
      if (one.slot > 0) this.#begin(one.who, key);
    } else {
      this.transactions.delete(key);
      if (one.act === "commit") this.#commit(one.who, open);
      else expect(this.clients[one.who]!.abort(open.id)).toBe("OK");
    }
    this.#compareEvents();
    const wrong = this.xenstored.store.tree.inconsistencies();
    if (wrong.length > 0) expect(wrong).toEqual([]);
  }

  /** Everybody heard of every change at a watch of theirs that they may know of, once, and of nothing else. */
  #compareEvents(): void {
    const changes = this.model.changes.splice(0);
    for (const [who, client] of this.clients.entries()) {
      const expected = [...this.watches[who]!].flatMap((watched) =>
        changes.filter((change) => this.model.hears(who, watched, change)).map(({ path }) => `${path}|${watched}`),
      );
      const heard = client.events();
      if (heard.sort().join() !== expected.sort().join()) expect([who, heard]).toEqual([who, expected]);
      this.heard += heard.length;
    }
  }

  #watch(who: number, path: string): void {
    const client = this.clients[who]!;
    if (this.watches[who]!.delete(path)) expect(client.ask("UNWATCH", [path, path])).toBe("OK");
    else {
      expect(client.watch(path, path)).toBe("OK");
      expect(client.events()).toEqual([`${path}|${path}`]); // at once, whatever is there
      this.watches[who]!.add(path);
    }
  }

  check(): void {
    const { tree } = this.xenstored.store;
    const dump = tree.subtree("/").map((path) => {
      const [value, permissions, children] = (["READ", "GET_PERMS", "DIRECTORY"] as const).map((verb) =>
        this.clients[0]!.ask(verb, [path]),
      );
      return `${path}=${value} ${permissions!.replaceAll("|", ",")} [${children!.replaceAll("|", ",")}]`;
    });
    expect(dump.sort()).toEqual(this.model.dump());
  }

  #send(who: number, { verb, path, value, permissions }: Step, txId: number): string {
    const strings = verb === "SET_PERMS" ? [path, ...permissions] : [path];
    return this.clients[who]!.ask(verb, strings, txId, verb === "WRITE" ? value : "");
  }

  #ask(who: number, step: Step, open: OpenTransaction | undefined): void {
    const reply = this.#send(who, step, open?.id ?? 0);
    if (!open)
      expect(`${step.verb} ${step.path}: ${reply}`).toBe(
        `${step.verb} ${step.path}: ${this.model.perform(who, step, NODE_LIMIT)}`,
      );
    else {
      open.steps.push({ step, reply });
      if (reply === "ENOSPC" && step.verb !== "SET_PERMS") open.doomed = true;
    }
  }

  #begin(who: number, key: string): void {
    const id = this.clients[who]!.begin();
    expect(id).toBeGreaterThan(0);
    this.transactions.set(key, { id, version: this.model.version, steps: [], doomed: false, outdated: false });
  }

  #commit(who: number, open: OpenTransaction): void {
    const verdict = this.clients[who]!.commit(open.id) as keyof typeof this.commits;
    this.commits[verdict]++;
    const replay = this.model.copy();
    const replies = open.steps.map(({ step }) => replay.perform(who, step, Number.POSITIVE_INFINITY));
    if (open.doomed) expect(verdict).toBe("ENOMEM");
    else if (open.outdated) expect(verdict).toBe("EAGAIN");
    else if (verdict === "EAGAIN") expect(this.model.version).toBeGreaterThan(open.version);
    else if (verdict === "ENOSPC") expect(replay.owned(who)).toBeGreaterThan(NODE_LIMIT);
    else {
      expect(verdict).toBe("OK");
      expect(replies).toEqual(open.steps.map(({ reply }) => reply));
      replay.version += this.model.version;
      replay.changes = merged(replay.changes);
      this.model = replay;
    }
  }

  #die(domid: number): void {
    this.xenstored.domainDied(domid);
    this.xenstored.introduce(domid);
    this.clients[domid] = new RawClient(this.xenstored, domid);
    this.watches[domid]!.clear();
    this.model.forget(domid);
    for (const [key, open] of this.transactions) {
      if (key.startsWith(`${domid}/`)) this.transactions.delete(key);
      else open.outdated = true;
    }
  }
}

/** A transaction tells of each path once, to whoever might have known before or after. */
function merged(changes: readonly ModelChange[]): ModelChange[] {
  const paths = [...new Set(changes.map(({ path }) => path))];
  return paths.map((path) => {
    const all = changes.filter((change) => change.path === path);
    return {
      path,
      exact: all.every(({ exact }) => exact),
      lists: [...all[0]!.lists, ...all.at(-1)!.lists],
    };
  });
}

test("random operations of three domains match the model", () => {
  const commits = { OK: 0, EAGAIN: 0, ENOMEM: 0, ENOSPC: 0 };
  let heard = 0;
  fc.assert(
    fc.property(fc.array(act, { maxLength: 120, size: "max" }), (acts) => {
      const comparison = new Comparison();
      for (const [i, one] of acts.entries()) {
        comparison.run(one);
        if (i % 20 === 0) comparison.check();
      }
      comparison.check();
      for (const name of Object.keys(commits) as (keyof typeof commits)[]) commits[name] += comparison.commits[name];
      heard += comparison.heard;
    }),
    { numRuns: 100 },
  );
  // The work was not all of one kind.
  expect(Math.min(commits.OK, commits.EAGAIN)).toBeGreaterThan(0);
  expect(heard).toBeGreaterThan(100);
});
