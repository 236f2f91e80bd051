import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isNbdUri, parseNbdUri, printNbdUri } from "#src/nbd/uri.js";

describe("NBD URIs", () => {
  // The examples of doc/uri.md, and what its rules imply.
  test.each([
    ["nbd://example.com:10810/export", { host: "example.com", port: 10810 }, "export"],
    ["nbd://example.com/disk", { host: "example.com", port: 10809 }, "disk"],
    ["nbd://example.com/", { host: "example.com", port: 10809 }, ""],
    ["nbd://example.com", { host: "example.com", port: 10809 }, ""],
    ["nbd://example.com//disk", { host: "example.com", port: 10809 }, "/disk"],
    ["nbd://example.com/hello%20world", { host: "example.com", port: 10809 }, "hello world"],
    ["nbd://[::1]:1/a/../b", { host: "::1", port: 1 }, "a/../b"],
    ["nbd:///disk", { host: "localhost", port: 10809 }, "disk"],
    ["NBD+UNIX:///disk?socket=sock", { path: "sock" }, "disk"],
    ["nbd+unix:///?socket=%00/abstract", { path: "\0/abstract" }, ""],
    ["nbd+unix://?socket=/a%20b", { path: "/a b" }, ""],
  ])("%s", (uri, target, exportName) => expect(parseNbdUri(uri)).toEqual({ target, exportName }));

  test.each([
    ["nbds://host/x?tls-certificates=/a&tls-psk-file=/b", "allowed one of them"],
    ["nbds://host/x?tls-verify-peer=maybe", "allowed true and false"],
    ["nbds://host/x?tls-key=/k", '"tls-key"'],
    ["nbds://host/x?socket=/s", "allowed with nbds+unix"],
    ["nbds+unix:///x", "no parameter socket"],
    ["nbd+vsock://1/", "allowed nbd, nbds, nbd+unix and nbds+unix"],
    ["nbd+unix:///x", "no parameter socket"],
    ["nbd+unix:///x?socket=", "no parameter socket"],
    ["nbd://h/x?socket=/s", "allowed with nbd+unix"],
    ["nbd+unix:///x?socket=/a&socket=/b", "twice"],
    ["nbd://h/?tls-verify-peer=0", "tls-verify-peer"],
    ["nbd://h:0/", "port is 0"],
    ["nbd://h:65536/", "port is 65536"],
    ["nbd://h:1:2/", "authority"],
    ["nbd://h/%zz", "percent-encoded"],
    ["nbd://h/%00", "zero byte"],
    [`nbd://h/${"x".repeat(4097)}`, "4097 bytes"],
    [`nbd+unix:///?socket=/${"x".repeat(107)}`, "108 bytes, allowed 1..107"],
    ["nbd://h/x#p2", "no URI"],
  ])("%s is refused", (uri, reason) =>
    expect(() => parseNbdUri(uri)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", message: expect.stringContaining(reason) }),
    ),
  );

  test.each([
    ["nbds://example.com/x", { host: "example.com", port: 10809 }, {}],
    ["nbds://alice@h:1/x?tls-psk-file=/k%20s", { host: "h", port: 1 }, { username: "alice", pskFile: "/k s" }],
    [
      "nbds+unix://a%40b@/x?socket=/s&tls-certificates=/pki&tls-hostname=h&tls-verify-peer=1",
      { path: "/s" },
      { username: "a@b", certificates: "/pki", hostname: "h" },
    ],
    ["nbds://h/x?tls-verify-peer=false", { host: "h", port: 10809 }, { verifyPeer: false }],
  ])("%s", (uri, target, tls) => {
    expect(parseNbdUri(uri)).toEqual({ target, exportName: "x", tls });
    expect(parseNbdUri(printNbdUri({ target, exportName: "x", tls }))).toEqual({ target, exportName: "x", tls });
  });

  test("print and parse are inverse", () => {
    const name = fc.string({ unit: "grapheme", maxLength: 40 }).filter((text) => !text.includes("\0"));
    const path = fc.string({ minLength: 1, maxLength: 30 }).filter((text) => Buffer.byteLength(text) <= 107);
    const port = fc.integer({ min: 1, max: 65535 });
    const target = fc.oneof(fc.record({ path }), fc.record({ host: fc.constantFrom("a.b", "::1", "127.0.0.1"), port }));
    fc.assert(
      fc.property(target, name, (target, exportName) => {
        const address = { target, exportName };
        expect(parseNbdUri(printNbdUri(address))).toEqual(address);
      }),
    );
  });

  test("are told from files by their scheme", () => {
    for (const uri of ["nbd:x", "nbd+unix:///", "nbds://h", "NBD://h"]) expect(isNbdUri(uri)).toBe(true);
    for (const file of ["nbd", "nbd.dsk", "./nbd:x", "nbdx:y", "/nbd://h"]) expect(isNbdUri(file)).toBe(false);
  });
});
