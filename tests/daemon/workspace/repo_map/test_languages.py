"""What is shown of a file in each language."""

from __future__ import annotations

import textwrap

import pytest

from sessiond.daemon.workspace.repo_map import repo_map
from sessiond.daemon.workspace.repo_map.definitions import outline
from sessiond.daemon.workspace.repo_map.languages import LANGUAGES, language_of, load

_PYTHON = """
    import os
    from b import thing as t, Other

    MAX = _LIMIT = 1
    count: int = 3
    VERSION: str = "1"
    type Pairs[T] = list[tuple[T, T]]

    @decorated
    async def f(
        a: int,  # first
        *,
        b: str = "x",
    ) -> None:  # noqa
        INSIDE = 1
        def inner(): pass

    class Shop[T](Base, metaclass=Meta):
        '''Sells.'''
        FIELD = 1

        @property
        def total(self) -> T: return helper(self).Kind

        class Deep: ...

    if True:
        def guarded(): ...
"""
_PYTHON_MAP = """
 MAX
 VERSION: str
 type Pairs[T] = list[tuple[T, T]]
 async def f(a: int, *, b: str = "x") -> None
 class Shop[T](Base, metaclass=Meta)
  def total(self) -> T
  class Deep
 def guarded()
"""

_JAVASCRIPT = """
    import x, { helper as h } from './b';
    const { join } = require('fs');
    const MAX_SIZE = 10;
    let small = 1;
    export const table = { a: 1 };
    export const add = (a, b = 2) => a + b;
    const sub = async function (a) { return a; };
    export default class Shop extends Base {
      static #count = 0;
      constructor(name) { super(); }
      get total() { return 1; }
      async *walk(x,
        y) { function inner() {} }
    }
    function* gen(a /* what */, b) { const Q = 1; }
    export async function main({ a, b }, ...rest) { new Thing().sell(); }
    const Widget = class extends Base { draw() {} };
    exports.late = function (a) { };
    export function View(props) { return <Box a={1}><Other/></Box>; }
"""
_JAVASCRIPT_MAP = """
 const MAX_SIZE
 const table
 const add = (a, b = 2)
 const sub = async function (a)
 class Shop extends Base
  constructor(name)
  get total()
  async *walk(x, y)
 function* gen(a, b)
 async function main({ a, b }, ...rest)
 const Widget = class extends Base
  draw()
 exports.late = function (a)
 function View(props)
"""

_TYPESCRIPT = """
    import { Thing } from "./thing";
    export interface Options<T> extends Base { name: string; run(x: number): Promise<T>; }
    export type Id = string | number;
    type Pair = {
      a: number;
      b: string;
    };
    export enum Color { Red, Green }
    export abstract class Repo<T extends Thing> extends Store<T> implements Options<T> {
      @inject() private readonly x: number;
      abstract find(id: Id): T;
      @logged save(item: T): void { }
    }
    declare function outer(a: number): string;
    export namespace Deep { export function inside(): void {} }
    declare module "foo" { export function bar(): void; }
    @Component({ selector: 'x' })
    export class Page { constructor(private s: Thing) {} }
    export const handler = async (event: Event): Promise<void> => { };
"""
_TYPESCRIPT_MAP = """
 interface Options<T> extends Base
  run(x: number): Promise<T>
 type Id = string | number
 type Pair = { a: number; b: string; }
 enum Color
 abstract class Repo<T extends Thing> extends Store<T> implements Options<T>
  abstract find(id: Id): T
  save(item: T): void
 function outer(a: number): string
 namespace Deep
  function inside(): void
 module "foo"
  function bar(): void
 class Page
  constructor(private s: Thing)
 const handler = async (event: Event): Promise<void>
"""

_GO = """
    package main

    // Server serves.
    type Server struct {
        mu sync.Mutex
    }

    type (
        Handler interface {
            Serve(ctx context.Context, r *Request) error
            io.Closer
        }
        ID = string
        Names []string
    )

    const Max, hidden = 1, 2
    const (
        A = iota
        B
        small
    )

    func New(addr string, opts ...Option) (*Server, error) { return &Server{}, nil }
    func (s *Server) Run(
        ctx context.Context, // why
        n int,
    ) error {
        fmt.Println(http.DefaultClient)
        type local struct{}
        return nil
    }
    func Map[T any, U any](xs []T, f func(T) U) []U { return nil }
"""
_GO_MAP = """
 type Server struct
 type Handler interface
  Serve(ctx context.Context, r *Request) error
 type ID = string
 type Names []string
 const Max, hidden
 const A
 const B
 func New(addr string, opts ...Option) (*Server, error)
 func (s *Server) Run(ctx context.Context, n int) error
 func Map[T any, U any](xs []T, f func(T) U) []U
"""

_RUST = """
    use crate::store::{Entry, Store as S};
    /// Doc
    #[derive(Debug)]
    pub struct Tree<T> where T: Ord { root: Option<T> }
    pub struct Unit;
    pub struct Pair(u32, u32);
    pub enum Kind { A, B(u32) }
    pub trait Walk: Sized { fn step(&mut self, n: usize) -> bool; fn twice(&self) {} }
    impl<T: Ord> Walk for Tree<T> { fn step(&mut self, n: usize) -> bool { fn inner() {} true } }
    impl Pair { pub async fn load(path: &Path) -> Result<Self> { seek(LIMIT); todo!() } }
    pub const MAX: usize = 10;
    static mut COUNT: u32 = 0;
    type Alias<T> = Vec<T>;
    macro_rules! square { ($x:expr) => { $x * $x }; }
    mod tests { #[test] fn works() {} }
    pub(crate) unsafe extern "C" fn raw(a: *const u8) {}
"""
_RUST_MAP = """
 pub struct Tree<T> where T: Ord
 pub struct Unit
 pub struct Pair(u32, u32)
 pub enum Kind
 pub trait Walk: Sized
  fn step(&mut self, n: usize) -> bool
  fn twice(&self)
 impl<T: Ord> Walk for Tree<T>
  fn step(&mut self, n: usize) -> bool
 impl Pair
  pub async fn load(path: &Path) -> Result<Self>
 pub const MAX: usize
 static mut COUNT: u32
 type Alias<T> = Vec<T>
 macro_rules! square
 mod tests
  fn works()
 pub(crate) unsafe extern "C" fn raw(a: *const u8)
"""

_C = """
    #ifndef A_H
    #define A_H
    #define MAX 10
    #define SQUARE(x) \\
        ((x) * (x))
    typedef struct node { int a; } node_t;
    typedef int (*callback)(int);
    struct point { int x, y; };
    enum color { RED };
    union either { int a; };
    static inline int add(int a, int b) { int f(int); return helper(a) + LIMIT; }
    char **split(const char *s, /* where */ char c) { return 0; }
    int declared(struct other *a);
    struct point *make(void);
    int global = 3;
    #endif
"""
_C_MAP = """
 #define MAX
 #define SQUARE(x)
 typedef struct node { int a; } node_t
 typedef int (*callback)(int)
 struct point
 enum color
 union either
 static inline int add(int a, int b)
 char **split(const char *s, char c)
 int declared(struct other *a)
 struct point *make(void)
"""

_CPP = """
    namespace ns::inner {
    template <typename T> class Box : public Base<T> {
     public:
      Box() : a_(1) {}
      ~Box() {}
      T& get() const { return ns::fetch(a_); }
      virtual void draw(Canvas& c) = 0;
      bool operator==(const Box& o) const { return true; }
      static Box* make();
      struct Nested { int x; void go() {} };
     private:
      int a_;
    };
    enum class Kind : int { A };
    using Alias = std::vector<int>;
    void free_function(int a, std::string s = "{") { }
    }
    int ns::inner::Box<int>::size() const { return 0; }
    std::string& Foo::name() { return n; }
    Foo::Foo(int a) : a_(a) { }
"""
_CPP_MAP = """
 namespace ns::inner
  class Box : public Base<T>
   Box()
   ~Box()
   T& get() const
   virtual void draw(Canvas& c) = 0
   bool operator==(const Box& o) const
   static Box* make()
   struct Nested
    void go()
  enum class Kind : int
  using Alias = std::vector<int>
  void free_function(int a, std::string s = "{")
 int ns::inner::Box<int>::size() const
 std::string& Foo::name()
 Foo::Foo(int a)
"""

_JAVA = """
    package x;
    @Service
    public class A<T extends B> extends C implements D, E {
      public static final int MAX = 3;
      private int x;
      public A(int x) { this.x = Limits.LOWEST; }
      @Override
      @Deprecated public <U> List<U> run(final String a,
          int b) throws IOException { class Local {} return helper.fetch(); }
      interface Inner { void go(int a); default int two() { return 2; } }
      enum Color { RED; Color() {} }
      record Point(int x, int y) { }
    }
    @interface Ann { String value(); }
"""
_JAVA_MAP = """
 public class A<T extends B> extends C implements D, E
  public static final int MAX
  public A(int x)
  public <U> List<U> run(final String a, int b) throws IOException
  interface Inner
   void go(int a)
   default int two()
  enum Color
   Color()
  record Point(int x, int y)
 @interface Ann
"""

_ALL = [
    ("a.py", _PYTHON, _PYTHON_MAP, "thing Other Base decorated helper Kind"),
    ("a.js", _JAVASCRIPT, _JAVASCRIPT_MAP, "helper join Base Thing .sell Box Other"),
    ("a.ts", _TYPESCRIPT, _TYPESCRIPT_MAP, "Thing Base Store Component inject"),
    ("a.tsx", _TYPESCRIPT, _TYPESCRIPT_MAP, "Thing Base Store Component inject"),
    ("a.go", _GO, _GO_MAP, "Mutex Context Request Option fmt.Println DefaultClient"),
    ("a.rs", _RUST, _RUST_MAP, "Entry Store Ord Path seek LIMIT todo"),
    ("a.c", _C, _C_MAP, "helper LIMIT other"),
    ("a.h", _C, _C_MAP, "helper LIMIT other"),
    ("a.cpp", _CPP, _CPP_MAP, "Base fetch Canvas vector Foo"),
    ("a.h", _CPP, _CPP_MAP, "Base fetch Canvas vector Foo"),
    ("A.java", _JAVA, _JAVA_MAP, "B C D E List IOException Limits LOWEST helper.fetch"),
]


@pytest.mark.parametrize(("path", "source", "expected", "_"), _ALL, ids=[case[0] for case in _ALL])
def test_definitions_are_shown_without_their_bodies(path: str, source: str, expected: str, _: str) -> None:
    text = repo_map([(path, textwrap.dedent(source))], lambda texts: [1] * len(texts), 1)
    assert text == f"{path}:{expected}"


@pytest.mark.parametrize(("path", "source", "_", "names"), _ALL, ids=[case[0] for case in _ALL])
def test_names_that_are_used_are_found(path: str, source: str, _: str, names: str) -> None:
    language = language_of(path)
    assert language is not None
    assert set(names.split()) <= outline(language, textwrap.dedent(source).encode()).references


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", "a.shelf.take(1)"),
        ("javascript", "a.shelf.take(1);"),
        ("tsx", "a.shelf.take(1);"),
        ("go", "package p\nfunc f() { a.shelf.take(1) }"),
        ("rust", "fn f() { a.shelf.take(1) }"),
        ("c", "void f() { a.shelf.take(1); }"),
        ("cpp", "void f() { a.shelf.take(1); }"),
        ("java", "class k { void f() { a.shelf.take(1); } }"),
    ],
)
def test_what_is_called_through_something_is_told_apart(language: str, source: str) -> None:
    assert outline(language, source.encode()).references == {".take", "shelf.take"}


def test_what_stands_in_a_class_is_used_through_it() -> None:
    assert [(d.name, d.owner) for d in outline("python", b"class A:\n  def b(self): pass\n").definitions] == [
        ("A", ""),
        ("b", "A"),
    ]
    methods = b"func (s *S) A() {}\nfunc (S) B() {}\nfunc (l *L[T]) C() {}\nfunc D() {}\n"
    assert [(d.name, d.owner) for d in outline("go", b"package p\n" + methods).definitions] == [
        ("A", "S"),
        ("B", "S"),
        ("C", "L"),
        ("D", ""),
    ]
    space = b"namespace n { class K { void f(); }; void g() {} }"
    assert [(d.name, d.owner) for d in outline("cpp", space).definitions] == [
        ("n", ""),
        ("K", ""),
        ("f", "K"),
        ("g", ""),
    ]


def test_names_of_parameters_and_variables_are_no_references() -> None:
    text = b"def f(path, name=1):\n    text = path\n    for item in name: print(text, item)\n"
    assert outline("python", text).references == {"print"}


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("B.PYI", "python"),
        ("a.d.ts", "typescript"),
        ("a.tsx", "tsx"),
        ("a.jsx", "javascript"),
        ("x.hpp", "cpp"),
        ("py", None),
        ("a.py/README", None),
        ("a.", None),
        ("", None),
        ("notes.md", None),
    ],
)
def test_the_suffix_tells_the_language(path: str, language: str | None) -> None:
    assert language_of(path) == language


def test_each_language_loads_once() -> None:
    assert {path.rpartition(".")[2] for path, *_ in _ALL} >= {
        "py",
        "js",
        "ts",
        "tsx",
        "go",
        "rs",
        "c",
        "cpp",
        "java",
    }
    for language in LANGUAGES:
        assert load(language) is load(language)
        assert len(load(language).prefixes) == load(language).query.pattern_count
