document.title = "board 1";
