// Runs .ci/newest_python.py on the CPython 3.14 that `npm install pyodide@314` brings as WebAssembly:
//   node .ci/newest_python.mjs FOLDER_WITH_NODE_MODULES SITE_PACKAGES
// Of SITE_PACKAGES, another Python's, only what is pure Python can be imported.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, packages] = process.argv.slice(2).map((folder) => path.resolve(folder));
const repository = path.dirname(import.meta.dirname);
const { loadPyodide } = await import(pathToFileURL(path.join(modules, "node_modules/pyodide/pyodide.mjs")));
const python = await loadPyodide();
for (const [place, root] of [["/repository", repository], ["/packages", packages]]) {
  python.FS.mkdirTree(place);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, place);
}
try {
  python.runPython(`
import runpy, sys
sys.path[:0] = ["/repository", "/packages"]
runpy.run_path("/repository/.ci/newest_python.py", run_name="__main__")
`);
} catch (error) { // node would print the line of pyodide that threw it, of a megabyte
  console.error(error.message);
  process.exit(1);
}
