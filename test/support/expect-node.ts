/** Runs in every test worker: with XVD_EXPECT_NODE=24 the tests fail unless that major version of Node runs them. */
const expected = process.env.XVD_EXPECT_NODE;
const found = process.versions.node.split(".")[0];
if (expected !== undefined && expected !== found)
  throw new Error(`XVD_EXPECT_NODE is ${expected}, these tests run under Node ${process.version}`);
