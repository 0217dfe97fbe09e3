"""A page as blocks (`blocks`), and two ways to write it down (`html`, `markdown`). A new kind of block is a class and a
case in each of both."""
