/**
 * The environment for commands that work in another checkout. Git tells its hooks which repository and index are meant
 * (GIT_DIR, GIT_INDEX_FILE …): a git that is started elsewhere with these reads and writes the user's, the index of the commit that
 * is being made among them. See the names that `git rev-parse --local-env-vars` lists; what is left of them is configuration.
 */
const LOCAL: ReadonlySet<string> = new Set([
  'GIT_DIR',
  'GIT_COMMON_DIR',
  'GIT_WORK_TREE',
  'GIT_IMPLICIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_OBJECT_DIRECTORY',
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_SHALLOW_FILE',
  'GIT_PREFIX',
]);

/** This process's environment, but for what ties git to one repository: it goes by the working folder. */
export function gitEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !LOCAL.has(name)));
}
