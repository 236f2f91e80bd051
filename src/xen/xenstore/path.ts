/** Paths of the store: which are valid, how a relative one resolves, and how they are taken apart (xen docs/misc/xenstore.txt). */
import { xenstoreError } from "./xenstore-error.js";

/** Bytes of an absolute path. */
export const ABSOLUTE_PATH_MAX = 3072;
/** Bytes after `/local/domain/<domid>/`. */
export const RELATIVE_PATH_MAX = 2048;

/** The nodes behind the two special watches; they have permissions but no value, no parent and no children. */
export const INTRODUCE_DOMAIN = "@introduceDomain";
export const RELEASE_DOMAIN = "@releaseDomain";

const VALID_CHARS = /^[A-Za-z0-9\-/_@]*$/;
const HOME_PREFIX = /^\/local\/domain\/\d{1,5}\//;

export function homeOf(domid: number): string {
  return `/local/domain/${domid}`;
}

/**
 * The absolute form of what a client wrote. `@` names pass only where `special` says so.
 * Throws EINVAL for another character, an empty name between slashes, a slash at the end, or too many bytes.
 */
export function resolvePath(text: string, home: string, special = false): string {
  const isSpecial = text.startsWith("@");
  const path = text.startsWith("/") || isSpecial ? text : `${home}/${text}`;
  if (!isValid(path) || (isSpecial && !special)) throw xenstoreError("EINVAL", `use xenstore path ${quote(text)}`);
  return path;
}

function isValid(path: string): boolean {
  if (path.length > ABSOLUTE_PATH_MAX || !VALID_CHARS.test(path) || path.includes("//")) return false;
  if (path.endsWith("/") && path !== "/") return false;
  return path.length - (HOME_PREFIX.exec(path)?.[0].length ?? 0) <= RELATIVE_PATH_MAX;
}

/** Short enough for a message, whatever a client sent. */
export function quote(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}…` : path);
}

/** The node above, undefined for `/` and special nodes. */
export function parentOf(path: string): string | undefined {
  if (path === "/" || path.startsWith("@")) return undefined;
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The last name of a path that is not `/`. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function childPath(parent: string, name: string): string {
  return parent === "/" ? `/${name}` : `${parent}/${name}`;
}
