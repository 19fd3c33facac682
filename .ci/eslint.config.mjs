// For the pages' script, whose three files are checked as the one that a page holds.
export default [{
  languageOptions: {
    ecmaVersion: 2022, sourceType: "script",
    globals: Object.fromEntries(["document", "window", "location", "atob", "URLSearchParams", "performance"].map((name) => [name, "readonly"])),
  },
  linterOptions: { reportUnusedDisableDirectives: "error" },
  rules: {
    "no-undef": "error", "no-unused-vars": "error", "no-redeclare": "error", "no-shadow": "error", "no-var": "error",
    "prefer-const": "error", eqeqeq: "error", "no-implicit-globals": "off", "no-eval": "error", "no-implied-eval": "error",
    "no-unreachable": "error", "no-fallthrough": "error", "no-dupe-keys": "error", "no-dupe-class-members": "error",
    "no-const-assign": "error", "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
    "no-constant-condition": "error", "no-unsafe-optional-chaining": "error", "array-callback-return": "error",
    "consistent-return": "off", "no-unused-expressions": ["error", { allowShortCircuit: true, allowTernary: true }],
    "no-console": "error", "no-template-curly-in-string": "error", "no-useless-escape": "error", "max-len": ["error", 200],
  },
}];
