/** XSA-323, XSA-324 and XSA-481 (CVE-2020-29482, CVE-2020-29484): lengths of paths and of events, and a path that ended the daemon. */
import { describe, expect, test } from "vitest";
import { RingHost } from "../xen/xenstore/ring-host.js";

const setUp = () => {
  const host = new RingHost({ quotas: { nodeSize: 0 } });
  return { host, guest: host.guest(1) };
};
const HOME = "/local/domain/1/";

describe("paths at their limits", () => {
  test("2048 bytes below a home directory, absolute or relative", () => {
    const { guest, host } = setUp();
    const longest = `data/${"x".repeat(2048 - 5)}`;
    expect(guest.write(longest, "v")).toBe("OK");
    expect(guest.ask("READ", [`${HOME}${longest}`])).toBe("v");
    expect(guest.write(`${longest}x`, "v")).toBe("EINVAL");
    expect(guest.ask("READ", [`${HOME}${longest}x`])).toBe("EINVAL");
    expect(host.dom0.rm(`${HOME}${longest}`)).toBe("OK");
  });

  test("2048 bytes elsewhere", () => {
    const { host } = setUp();
    expect(host.dom0.write(`/${"x".repeat(2047)}`, "v")).toBe("OK");
    expect(host.dom0.write(`/${"x".repeat(2048)}`, "v")).toBe("EINVAL");
    expect(host.dom0.write(`/${"x".repeat(4000)}`, "v")).toBe("EINVAL");
  });

  test.each(["/local/domain/", "/local/domain//", "/local/domain/1/", "//", "/local//domain", ""])(
    "%j is refused, by every request that takes a path",
    (path) => {
      const { host, guest } = setUp();
      // "" is the home directory with a slash behind it
      for (const name of ["READ", "DIRECTORY", "GET_PERMS", "MKDIR", "RM", "WRITE"] as const)
        for (const reply of [guest.ask(name, [path]), host.dom0.ask(name, [path])])
          expect([name, reply]).toEqual([name, "EINVAL"]);
      expect(guest.ask("WATCH", [path, "t"])).toBe("EINVAL");
      expect(guest.ask("SET_PERMS", [path, "n1"])).toBe("EINVAL");
      expect(host.dom0.read("/")).toBe("");
    },
  );
});

test("an event too long for a message is dropped, and the next one comes", () => {
  const { host, guest } = setUp();
  const token = "t".repeat(4096 - 5 - 1);
  expect(guest.ask("WATCH", ["data", token])).toBe("OK");
  guest.received.length = 0;
  for (const path of [`data/${"x".repeat(2000)}`, "data/y"]) expect(guest.write(path, "")).toBe("OK");
  host.run();
  expect(guest.watchEvents()).toEqual([]); // neither fits beside that token
  expect(guest.ask("UNWATCH", ["data", token])).toBe("OK");
  guest.ask("WATCH", ["data", "t".repeat(4096 - 7)]);
  guest.received.length = 0;
  guest.write("data/y", "");
  guest.write("data", "");
  expect(guest.watchEvents().map((event) => event.slice(0, 6))).toEqual(["data|t"]);
  expect(guest.get("error")).toBe(0);
});
