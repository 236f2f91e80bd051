/** XSA-233 (CVE-2017-14317): a stub domain and its target go at the same time. */
import { describe, expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

describe.each([
  ["the target first", [1, 2]],
  ["the stub domain first", [2, 1]],
])("%s", (_, order) => {
  test.each(["shut down before", "not shut down before"])("%s", (how) => {
    const host = new RingHost();
    const [target, stub] = [host.guest(1), host.guest(2)];
    expect(host.dom0.ask("SET_TARGET", ["2", "1"])).toBe("OK");
    target.write("data/k", "v");
    expect(stub.ask("READ", ["/local/domain/1/data/k"])).toBe("v");
    stub.ask("WATCH", ["/local/domain/1/data", "t"]);
    host.dom0.watch("@releaseDomain", "gone");
    host.dom0.events();
    if (how === "shut down before") for (const domid of order) host.xenstored.domainShutdown(domid);
    for (const domid of order) {
      host.xenstored.domainDied(domid);
      host.xenstored.domainDied(domid); // the toolstack releases what is gone already
      expect(host.dom0.ask("RELEASE", [String(domid)])).toBe("ENOENT");
      host.run();
    }
    expect(host.dom0.events().length).toBe(how === "shut down before" ? 4 : 2);
    expect(host.platform.foreign.mapped).toBe(0);
    expect(host.xenstored.usage().map(({ domid }) => domid)).toEqual([0]);
    expect(host.xenstored.store.tree.inconsistencies()).toEqual([]);
    // Their numbers are free, and the new pair is none.
    host.guest(1).write("data/k", "v");
    expect(host.guest(2).ask("READ", ["/local/domain/1/data/k"])).toBe("EACCES");
  });
});
