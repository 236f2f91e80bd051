/** Power cuts behind every write, with and without what was not flushed, of the types that take long. */
import { describe, test } from "vitest";
import { expectWholeAfterCuts } from "./cuts-support.js";

describe.each(["raid10", "raid4", "raid5", "raid6", "raid6_nc", "mirror"])("%s", (type) => {
  test.each([false, true])("losing what was not flushed: %s", (lossy) => expectWholeAfterCuts(type, lossy));
});
