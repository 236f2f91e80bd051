import { expect, test } from "vitest";
import { DiskError, type ErrorCode } from "#src/errors.js";
import { NBD_ERRNO } from "#src/nbd/codes.js";
import { fromNbdErrno, toNbdErrno } from "#src/nbd/errno.js";

test.each<[ErrorCode, number]>([
  ["READ_ONLY", NBD_ERRNO.EPERM],
  ["DENIED", NBD_ERRNO.EPERM],
  ["NO_SPACE", NBD_ERRNO.ENOSPC],
  ["UNSUPPORTED", NBD_ERRNO.ENOTSUP],
  ["CORRUPT", NBD_ERRNO.EIO],
  ["IO", NBD_ERRNO.EIO],
  ["PROTOCOL", NBD_ERRNO.EIO],
  ["NOT_FOUND", NBD_ERRNO.EIO],
])("a client is told of %s by %i", (code, errno) => expect(toNbdErrno(new DiskError(code, "x"))).toBe(errno));

test("the system's errors and anything else have a value too", () => {
  expect(toNbdErrno(Object.assign(new Error("x"), { code: "EDQUOT" }))).toBe(NBD_ERRNO.ENOSPC);
  expect(toNbdErrno(Object.assign(new Error("x"), { code: "EROFS" }))).toBe(NBD_ERRNO.EPERM);
  expect(toNbdErrno(new RangeError("x"))).toBe(NBD_ERRNO.EINVAL);
  for (const odd of [undefined, null, "text", new Error("x"), { code: 7 }]) expect(toNbdErrno(odd)).toBe(NBD_ERRNO.EIO);
});

test("a server's error says what failed, where, and what the server said", () => {
  const error = fromNbdErrno(NBD_ERRNO.ENOSPC, "write", "nbd://h/x", "bytes 0..512", "pool full");
  expect(error).toMatchObject({ code: "NO_SPACE", details: { errno: "ENOSPC" } });
  expect(error.message).toBe('Cannot write nbd://h/x: the server answered ENOSPC: "pool full" (bytes 0..512)');
  expect(fromNbdErrno(9999, "read", "l", "w", "")).toMatchObject({
    code: "IO",
    message: "Cannot read l: the server answered 9999 (w)",
  });
});
